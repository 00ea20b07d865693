//! Work that splits by itself: the shards of a task are the whole, byte for byte, whether they run
//! into one folder at the same time or into folders that are put together.

use crate::fixture::{command, kao, model, names, trained, with_model};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;

const N_SHARDS: usize = 5;

/// All files below `folder`, with their content.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        match path.is_dir() {
            true => {
                let below = files(&path).into_iter();
                found.extend(below.map(|(below, content)| (format!("{name}/{below}"), content)));
            }
            false => found.push((name, fs::read(path).unwrap())),
        }
    }
    found
}

/// Runs all shards of `arguments` at the same time.
pub fn at_once(folder: &Path, arguments: &str) {
    let start = |k: usize| {
        let mut command =
            command(folder, &format!("{arguments} --threads 1 --shard {k}/{N_SHARDS}"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let started: Vec<_> = (0..N_SHARDS).map(start).collect();
    for (k, mut child) in started.into_iter().enumerate() {
        assert!(child.wait().unwrap().success(), "{arguments}: shard {k}");
    }
}

/// Asserts that two folders hold the same files.
pub fn assert_same(one: &Path, other: &Path) {
    assert_eq!(names(one), names(other), "{} and {}", one.display(), other.display());
    assert!(files(one) == files(other), "{} and {}", one.display(), other.display());
}

#[test]
fn the_shards_of_drawn_faces_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Not a multiple of the shards.
    let draw = "draw --count 13 --size 16 --seed 4";
    kao(folder, &format!("{draw} --out whole")).ok();
    at_once(folder, &format!("{draw} --out together"));
    assert_same(&folder.join("whole"), &folder.join("together"));
    // Into folders of their own, which are copied together; and one that failed is run again.
    fs::create_dir(folder.join("joined")).unwrap();
    for k in (0..N_SHARDS).rev() {
        let ran = kao(folder, &format!("{draw} --out part-{k} --shard {k}/{N_SHARDS}")).ok();
        assert!(
            ran.out.contains(if k % 2 == 0 { "faces drawn" } else { "3 faces drawn" }),
            "{ran:?}"
        );
        fs::remove_file(folder.join(format!("part-{k}")).join("metadata.jsonl")).unwrap();
        kao(folder, &format!("{draw} --out part-{k} --shard {k}/{N_SHARDS}")).ok();
        for (name, content) in files(&folder.join(format!("part-{k}"))) {
            fs::write(folder.join("joined").join(name), content).unwrap();
        }
    }
    assert_same(&folder.join("whole"), &folder.join("joined"));
    // More shards than faces.
    let ran = kao(folder, "draw --count 1 --size 16 --out few --shard 0/3").ok();
    assert!(ran.out.starts_with("0 faces drawn"), "{ran:?}");
}

#[test]
fn the_shards_of_samples_are_the_whole() {
    let (folder, sample) =
        with_model("sample --model MODEL --steps 2 --seed 7 --count 6 --tags smile --avoid angry");
    let folder = folder.path();
    kao(folder, &format!("{sample} --labels --out whole/")).ok();
    at_once(folder, &format!("{sample} --labels --out together/"));
    assert_eq!(names(&folder.join("whole")).len(), 6);
    assert_same(&folder.join("whole"), &folder.join("together"));
    // A shard makes its own and no others, and keeps what is there.
    let ran = kao(folder, &format!("{sample} --labels --out one/ --shard 1/{N_SHARDS}")).ok();
    assert!(ran.err.contains("1 image"), "{ran:?}");
    assert_eq!(names(&folder.join("one")), ["seed-7-image-00001.png"]);
    let ran = kao(folder, &format!("{sample} --labels --out together/ --shard 4/{N_SHARDS}")).ok();
    assert!(ran.err.contains("2 of 2 images done before"), "{ran:?}");
    let refused = kao(folder, &format!("{sample} --out grid.png --shard 0/2"));
    assert_eq!(refused.code, Some(2));
    assert!(refused.error().contains("--shard: only applies where each image goes"), "{refused:?}");
}

#[test]
fn the_shards_of_a_comparison_are_the_whole() {
    let (folder, compare) = with_model(
        "compare --model MODEL --samplers ddim,heun --steps 2,3 --etas 0,1 --count 5 --data FACES",
    );
    let folder = folder.path();
    kao(folder, &format!("{compare} --out whole")).ok();
    at_once(folder, &format!("{compare} --out together"));
    let together = folder.join("together");
    assert!(!together.join("index.html").exists(), "a page of a part");
    let ran = kao(folder, &format!("{compare} --out together")).ok();
    assert_eq!(ran.err.matches(": done before").count(), 6, "{ran:?}");
    assert_eq!(names(&folder.join("whole")), names(&together));
    // Seconds differ from run to run, and records and tables name them.
    for name in names(&together).iter().filter(|name| name.ends_with(".png")) {
        let read = |place: &str| fs::read(folder.join(place).join(name)).unwrap();
        assert!(read("whole") == read("together"), "{name}");
    }
    let distances = |place: &str| -> Vec<Value> {
        let json = fs::read_to_string(folder.join(place).join("compare.json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let comparisons = json["comparisons"].as_array().unwrap();
        comparisons.iter().map(|of| of["distance"].clone()).collect()
    };
    assert_eq!(distances("whole"), distances("together"));
}

#[test]
fn an_evaluation_of_parts_has_the_numbers_of_the_whole() {
    let arguments = "eval --model MODEL --data FACES --count 8 --steps 2 --eta 1";
    for more in ["", " --descriptions", " --descriptions --unseen", " --tags smile"] {
        let (folder, eval) = with_model(&format!("{arguments}{more}"));
        let folder = folder.path();
        let whole = kao(folder, &format!("{eval} --json"));
        if whole.code != Some(0) {
            // Whether the few pictures that are left out have tags to ask for is chance.
            assert!(!more.is_empty() && !more.contains("unseen"), "{whole:?}");
            continue;
        }
        let found: Value = serde_json::from_str(&whole.out).unwrap();
        let described = found["n_described"].as_u64();
        match more {
            " --descriptions --unseen" => assert_eq!(described, Some(8), "{found}"),
            " --descriptions" => assert!((1..8).contains(&described.unwrap()), "{found}"),
            _ => assert_eq!(described, None),
        }
        let early = kao(folder, &format!("{eval} --json --parts parts"));
        assert_eq!(early.code, Some(1), "{early:?}");
        at_once(folder, &format!("{eval} --parts parts"));
        let merged = kao(folder, &format!("{eval} --json --parts parts")).ok();
        assert_eq!(merged.out, whole.out);
        // A part that is there is kept, and one that is missing is named.
        let ran = kao(folder, &format!("{eval} --parts parts --shard 3/5")).ok();
        assert!(ran.err.contains("made before"), "{ran:?}");
        fs::remove_file(folder.join("parts/part-3-of-5.safetensors")).unwrap();
        let refused = kao(folder, &format!("{eval} --json --parts parts"));
        assert!(refused.error().contains("`part-3-of-5.safetensors` first"), "{refused:?}");
        assert!(refused.err.contains("--shard 3/5"), "{refused:?}");
        // Samples of another seed are refused by name.
        kao(folder, &format!("{eval} --parts parts --shard 3/5 --seed 5")).ok();
        let refused = kao(folder, &format!("{eval} --json --parts parts"));
        assert!(refused.error().contains("samples of seed 5; expected 999"), "{refused:?}");
    }
}

#[test]
fn parts_that_were_asked_for_more_are_refused_by_name() {
    let arguments = "eval --model MODEL --data FACES --count 2 --steps 2 --parts parts";
    let (folder, eval) = with_model(arguments);
    let folder = folder.path();
    let words: Vec<&str> = eval.split(' ').collect();
    let guide = folder.join("guide.safetensors");
    fs::copy(folder.join(words[2]), &guide).unwrap();
    let guided = format!("{eval} --guide guide.safetensors --guidance 3");
    kao(folder, &format!("{guided} --shard 0/1")).ok();
    kao(folder, &format!("{guided} --json")).ok();
    let refused = kao(folder, &eval);
    assert!(refused.error().contains("this evaluation has none"), "{refused:?}");
    // Not kept either.
    let ran = kao(folder, &format!("{eval} --shard 0/1")).ok();
    assert!(!ran.err.contains("made before"), "{ran:?}");
    // The same name, another guide.
    kao(folder, &format!("{guided} --shard 0/1")).ok();
    let mut bytes = fs::read(&guide).unwrap();
    bytes.splice(bytes.len() - 4.., 0.5_f32.to_le_bytes());
    fs::write(&guide, bytes).unwrap();
    let refused = kao(folder, &guided);
    assert!(refused.error().contains("samples of guide_fingerprint"), "{refused:?}");
}

#[test]
fn shards_that_there_are_not_are_refused_by_name() {
    let folder = trained();
    for (shard, words) in [
        ("5/5", "--shard 5/5: must be between 0/5 and 4/5"),
        ("x", "--shard x: must be two numbers"),
        ("0/0", "--shard 0/0: must be of 1 to"),
    ] {
        let ran = kao(folder, &format!("draw --count 3 --out never --shard {shard}"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.error().contains(words), "{ran:?}");
    }
    let ran = kao(folder, "eval --data faces --shard 0/2");
    assert!(ran.error().contains("--shard: needs --parts"), "{ran:?}");
    assert!(!folder.join("never").exists() && model().exists());
}

#[test]
fn a_scheduler_says_which_shard_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let draw = "draw --count 6 --size 16 --out faces --shard auto/3";
    let set = |name: &str, value: &str| {
        let mut command = command(folder, draw);
        command.env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX");
        command.env(name, value).output().unwrap()
    };
    assert!(set("JOB_COMPLETION_INDEX", "1").status.success());
    assert_eq!(names(&folder.join("faces"))[..2], ["face-000002.png", "face-000003.png"]);
    assert!(set("SLURM_ARRAY_TASK_ID", "2").status.success());
    assert_eq!(names(&folder.join("faces")).len(), 5);
    let refused = set("SLURM_ARRAY_TASK_ID", "3");
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("SLURM_ARRAY_TASK_ID=3"), "{told}");
}

/// Raw pictures: faces, some of them twice, in folders, with tags, one of them broken.
fn raw(folder: &Path) {
    kao(folder, "draw --count 40 --size 24 --seed 3 --out raw").ok();
    fs::create_dir(folder.join("raw/more")).unwrap();
    for k in 0..40 {
        let name = format!("face-{k:06}.png");
        // Duplicates far from each other, so that they fall to different shards.
        if k % 3 == 0 {
            fs::copy(folder.join("raw").join(&name), folder.join("raw/more").join(&name)).unwrap();
            fs::write(folder.join(format!("raw/more/face-{k:06}.txt")), "copied").unwrap();
        }
        if k % 7 == 0 {
            fs::copy(folder.join("raw").join(&name), folder.join(format!("raw/a{k}.png"))).unwrap();
        }
    }
    fs::write(folder.join("raw/b.png"), "no picture").unwrap();
}

#[test]
fn the_shards_of_prepared_pictures_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    raw(folder);
    for (more, n_files) in [("", 42), ("--shards 7", 7), ("--keep-duplicates", 62)] {
        for place in ["whole", "together"] {
            fs::remove_dir_all(folder.join(place)).ok();
        }
        let prepare = |out: &str| format!("prepare raw {out} --size 16 --min-side 8 {more}");
        let ran = kao(folder, &prepare("whole")).ok();
        assert!(ran.out.contains("20 duplicates"), "{ran:?}");
        assert!(!ran.err.contains("--shard"), "{ran:?}");
        let found = files(&folder.join("whole"));
        assert_eq!(found.len(), n_files, "{:?}", names(&folder.join("whole")));

        at_once(folder, &prepare("together"));
        let early = kao(folder, "train --data together --out run --dry-run");
        assert!(early.error().contains("was interrupted"), "{early:?}");
        // A shard that failed is run again.
        let ran = kao(folder, &format!("{} --shard 2/5", prepare("together"))).ok();
        assert!(ran.err.contains("without --shard"), "{ran:?}");
        kao(folder, &prepare("together")).ok();
        assert_same(&folder.join("whole"), &folder.join("together"));
        // The whole finishes what only some shards have begun.
        fs::remove_dir_all(folder.join("together")).unwrap();
        kao(folder, &format!("{} --shard 3/5", prepare("together"))).ok();
        kao(folder, &prepare("together")).ok();
        assert_same(&folder.join("whole"), &folder.join("together"));
    }
}

#[test]
fn a_preparation_that_was_killed_is_gone_on_with_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    raw(folder);
    for (number, more) in ["", "--shards 7"].into_iter().enumerate() {
        let prepare = |out: &str| format!("prepare raw {out} --size 64 --min-side 8 {more}");
        let whole = format!("whole-{number}");
        kao(folder, &prepare(&whole)).ok();
        for milliseconds in [5, 15, 30, 60] {
            let out = format!("killed-{number}-{milliseconds}");
            let mut child = command(folder, &prepare(&out)).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            child.kill().unwrap();
            child.wait().unwrap();
            kao(folder, &prepare(&out)).ok();
            assert_same(&folder.join(&whole), &folder.join(&out));
        }
    }
}

#[test]
fn training_is_the_same_from_a_folder_from_archives_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    raw(folder);
    fs::write(folder.join("small.toml"), crate::fixture::CONFIG).unwrap();
    kao(folder, "prepare raw plain --size 16 --min-side 8").ok();
    kao(folder, "prepare raw packed --size 16 --min-side 8 --shards 9").ok();
    let train = "train --config small.toml --min-tag-count 1 --steps 6";
    kao(folder, &format!("{train} --data plain --out expected")).ok();
    let weights = |run: &str| fs::read(folder.join(run).join("model.safetensors")).unwrap();
    for (number, (data, cache)) in [
        ("plain", "disk"),
        ("packed", "memory"),
        ("packed", "disk"),
        ("packed/shards-{000000..000004}.tar", "disk"),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("run-{number}");
        let arguments = format!("{train} --data {data} --cache {cache} --cache-dir cached");
        let ran = kao(folder, &format!("{arguments} --out {run}")).ok();
        assert_eq!(ran.err.contains("on disk, in `cached/"), cache == "disk", "{ran:?}");
        assert!(weights(&run) == weights("expected"), "{data} {cache}");
        // Stopped, and gone on with from elsewhere.
        let half = arguments.replace("--steps 6", "--steps 3");
        kao(folder, &format!("{half} --out half-{number}")).ok();
        let arguments = format!("{train} --data plain --cache disk --cache-dir cached --resume");
        kao(folder, &format!("{arguments} --out half-{number}")).ok();
    }
    // The same numbers of an evaluation.
    let model = "--model expected --count 8 --steps 2 --json --all-neighbours";
    let told = |arguments: &str| {
        let out = kao(folder, &format!("eval {model} {arguments}")).ok().out;
        let mut told: Value = serde_json::from_str(&out).unwrap();
        // Names and folders are other ones.
        told["settings"] = Value::Null;
        for sample in told["neighbours"].as_array_mut().unwrap() {
            for near in sample["nearest"].as_array_mut().unwrap() {
                near["file"] = Value::Null;
            }
        }
        told
    };
    let expected = told("--data plain");
    assert_eq!(told("--data packed --cache disk --cache-dir cached"), expected);
    let ran = kao(folder, "encode packed --model expected --count 2 --steps 2 --out n.safetensors");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
