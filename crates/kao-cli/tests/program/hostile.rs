//! Weights files from hostile hands: whatever is in them, the program ends within ten seconds and a
//! gibibyte, with an exit code of its own and few words.

use crate::fixture::{kao, names};
use crate::support::checkpoints::{CONFIG, settings, small, weights};
use crate::support::mutate::{self, Random};
use crate::support::torch::{Py, archive, dict, pickled, saved, tensor};
use kao::formats::{StoreAs, TensorView, write_safetensors};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The most that one file may take.
const MAX_SECONDS: u64 = 10;
const MAX_KIB: u64 = 1 << 20;

/// The most bytes of messages.
const MAX_MESSAGE_BYTES: usize = 1200;

/// Files with changes that are tried of each kind, unless `KAO_MUTATIONS` says otherwise.
const N_MUTATIONS: u64 = 40;

/// Runs the program on a file, within bounds, and checks how it ends.
fn survives(folder: &Path, arguments: &str, what: &str) {
    // The limit is of addresses, of which more are reserved than memory is taken.
    let program = env!("CARGO_BIN_EXE_kao");
    let script = format!("ulimit -v {}; exec \"$0\" {arguments}", 2 * MAX_KIB);
    let mut child = Command::new("sh")
        .args(["-c", &script, program])
        .current_dir(folder)
        .env("MALLOC_ARENA_MAX", "1")
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stderr = child.stderr.take().unwrap();
    let messages = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    // A busy machine gets three times as long.
    let deadline = Instant::now() + Duration::from_secs(3 * MAX_SECONDS);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: `{arguments}` does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    reader.join().unwrap().unwrap();
    let messages = String::from_utf8(messages.join().unwrap().unwrap()).unwrap();
    assert!(!messages.contains("panicked"), "{what}: {messages}");
    assert!(!messages.contains("memory allocation"), "{what}: {messages}");
    assert!(
        matches!(status.code(), Some(0 | 1)),
        "{what}: `{arguments}` {status}: {messages:.2000}"
    );
    assert!(messages.len() <= MAX_MESSAGE_BYTES, "{what}: {} bytes of messages", messages.len());
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A pickle of a dictionary with a tensor under `state_dict`, and these entries besides, the first
/// of which is remembered as 0.
fn with_entries(remembered: &[u8], entries: &[u8]) -> Vec<u8> {
    let weights = pickled(&dict([("w", tensor(&[1], vec![1.0]))]));
    let weights = &weights[2..weights.len() - 1];
    let entries = [&text("r")[..], remembered, b"q\x00", entries].concat();
    [&b"\x80\x02}("[..], &text("state_dict"), weights, &entries, b"u."].concat()
}

fn numbered(n: u32, entry: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..n).flat_map(entry).collect()
}

#[test]
fn a_few_bytes_ask_for_no_more_than_a_file_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let refer = b"h\x00";
    let key = |i: u32| text(&format!("{i:06}"));
    let dictionary =
        [b"}(".to_vec(), numbered(100_000, |i| [key(i), b"N".to_vec()].concat()), b"u".to_vec()];
    let long = "n".repeat(4_000_000);
    let rebuild = {
        let whole = pickled(&tensor(&[1], vec![1.0]));
        whole[2..whole.len() - 1].to_vec()
    };
    let path = [&b"cpathlib\nPosixPath\n("[..], &text("x").repeat(1_000_000), b"tR"].concat();
    let hydra = |class: &str| {
        // A container whose content is looked for among 100,000 entries, a million times.
        let state = [&b"}("[..], &numbered(100_000, |i| [key(i), b"N".to_vec()].concat()), b"u"];
        [format!("c{class}\n)R").as_bytes(), &state.concat(), b"b"].concat()
    };
    let shared_list = |object: &[u8]| {
        let list = [&b"]("[..], &refer.repeat(1_000_000), b"e"].concat();
        with_entries(object, &[text("hyper_parameters"), list].concat())
    };
    let pickles = [
        (
            "one dictionary 100,000 times",
            with_entries(
                &dictionary.concat(),
                &numbered(100_000, |i| [key(i), refer.to_vec()].concat()),
            ),
        ),
        (
            "dictionaries of it",
            with_entries(
                &dictionary.concat(),
                &numbered(100_000, |i| [&key(i)[..], b"}(", &text("a"), refer, b"u"].concat()),
            ),
        ),
        (
            "one text 1,900,000 times",
            with_entries(
                &text(&"x".repeat(1 << 20)),
                &[text("k"), refer.to_vec()].concat().repeat(1_900_000),
            ),
        ),
        (
            "one long name 2000 times",
            [
                &b"\x80\x02}("[..],
                &text(&long),
                b"q\x00",
                &rebuild,
                b"q\x01",
                &b"h\x00h\x01".repeat(2000),
                b"u.",
            ]
            .concat(),
        ),
        (
            "one tensor 3,000,000 times",
            [
                &b"\x80\x02}("[..],
                &text("w"),
                &rebuild,
                b"q\x01",
                &numbered(1_500_000, |i| [text(&format!("{i:x}")), b"h\x01".to_vec()].concat()),
                b"u.",
            ]
            .concat(),
        ),
        ("one long path a million times", shared_list(&path)),
        ("one container a million times", shared_list(&hydra("omegaconf.dictconfig\nDictConfig"))),
        ("four million values", with_entries(b"N", &b"K\x01]".repeat(2_000_000))),
        ("objects without end", with_entries(b"N", &b"N)R".repeat(3_500_000))),
        ("memos without end", with_entries(b"N", &b"N\x94".repeat(4_000_000))),
        (
            "copies of a list",
            with_entries(
                &[&b"]("[..], &b"N".repeat(1 << 20), b"e\x85"].concat(),
                &b"c__builtin__\nlist\nh\x00R".repeat(10_000),
            ),
        ),
    ];
    for (what, pickle) in pickles {
        let bytes = archive(&pickle, &[vec![1.0]]);
        fs::write(folder.path().join("bomb.ckpt"), &bytes).unwrap();
        for arguments in ["info bomb.ckpt --tensors", "convert bomb.ckpt out.safetensors"] {
            survives(folder.path(), arguments, &format!("{what} ({} bytes)", bytes.len()));
        }
    }
}

#[test]
fn headers_of_safetensors_ask_for_no_more_either() {
    let folder = tempfile::tempdir().unwrap();
    let entry = |shape: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
    let headers = [
        ("a long name", format!(r#"{{"{}":{}}}"#, "n".repeat(30 << 20), entry("[0]"))),
        (
            "many dimensions",
            format!(r#"{{"w":{}}}"#, entry(&format!("[{}0]", "0,".repeat(15 << 20)))),
        ),
        (
            "many tensors",
            format!(
                "{{{}\"w\":{}}}",
                numbered_text(450_000, |i| format!(r#""{i}":{},"#, entry("[0]"))),
                entry("[0]")
            ),
        ),
        (
            "a long configuration",
            format!(r#"{{"__metadata__":{{"kao":"{}"}}}}"#, "[".repeat(30 << 20)),
        ),
        (
            "a configuration of much",
            format!(
                r#"{{"__metadata__":{{"config":"{{\"ch_mult\":[{}1]}}"}}}}"#,
                "1,".repeat(15 << 20)
            ),
        ),
        (
            "metadata of much",
            format!(
                "{{\"__metadata__\":{{{}\"a\":\"\"}}}}",
                numbered_text(1_500_000, |i| format!("\"{i}\":\"\","))
            ),
        ),
    ];
    for (what, header) in headers {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        fs::write(folder.path().join("bomb.safetensors"), bytes).unwrap();
        for arguments in ["info bomb.safetensors", "convert bomb.safetensors out.safetensors"] {
            survives(folder.path(), arguments, what);
        }
    }
    assert_eq!(names(folder.path()), ["bomb.safetensors"]);
}

fn numbered_text(n: u32, entry: impl Fn(u32) -> String) -> String {
    (0..n).map(entry).collect()
}

#[test]
fn files_with_changes_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = settings(vec![
        ("dropout", 0.5.into()),
        ("beta_end", tensor(&[], vec![0.02])),
        ("kind", Py::Call(Box::new(Py::Global("m", "Kind")), vec!["cosine".into(), Py::None])),
    ]);
    let root = dict([
        ("epoch", 3.into()),
        ("state_dict", weights("", 0.01)),
        ("ema", weights("", 0.01)),
        ("hyper_parameters", settings),
    ]);
    let module = {
        let members =
            [("_parameters", weights("", 0.01)), ("_buffers", dict([])), ("_modules", dict([]))];
        let class = Py::Call(Box::new(Py::Global("m", "Net")), vec![]);
        Py::Object(Box::new(class), Box::new(dict(members)))
    };
    fs::write(folder.join("whole.ckpt"), saved(&root)).unwrap();
    kao(folder, "convert whole.ckpt whole.safetensors").ok();
    fs::write(folder.join("small.toml"), CONFIG).unwrap();
    let safetensors = fs::read(folder.join("whole.safetensors")).unwrap();

    let noise = noise();
    let config = fs::read(folder.join("small.toml")).unwrap();
    let storages = vec![vec![0.01f32]; 2 * small().tensors().len() + 1];
    // Without changes, all of it is read.
    fs::write(folder.join("noise.safetensors"), &noise).unwrap();
    let sample = "sample --model whole.safetensors --steps 2 --eta 1 --noise noise.safetensors";
    kao(folder, sample).ok();
    kao(folder, "convert whole.ckpt out.safetensors --config small.toml").ok();
    let n_mutations = std::env::var("KAO_MUTATIONS").map_or(N_MUTATIONS, |n| n.parse().unwrap());
    for index in 0..n_mutations {
        let mut random = Random::new(1, index);
        let random = &mut random;
        let [root, module] = [&root, &module].map(|value| vec![pickled(value)]);
        let convert = "convert FILE out.safetensors";
        let info = "info FILE";
        let sample = "sample --model whole.safetensors --steps 2 --noise FILE";
        let configured = "convert whole.ckpt out.safetensors --config FILE";
        // The archive, what is in it, and a header, which are read by three different readers; noise
        // and configurations.
        let kinds = [
            (
                "archive.pth",
                mutate::bytes(&[archive(&root[0], &storages)], random),
                [convert, info],
            ),
            ("pickle.ckpt", archive(&mutate::bytes(&root, random), &storages), [convert, info]),
            ("module.pt", archive(&mutate::bytes(&module, random), &storages), [convert, info]),
            ("header.safetensors", changed_header(&safetensors, random), [convert, info]),
            ("noise.safetensors", changed_header(&noise, random), [sample, info]),
            (
                "changed.toml",
                mutate::text(std::slice::from_ref(&config), random),
                [configured, info],
            ),
        ];
        for (name, bytes, arguments) in kinds {
            fs::write(folder.join(name), bytes).unwrap();
            let what = format!("{name}, change {index}");
            for arguments in arguments {
                survives(folder, &arguments.replace("FILE", name), &what);
            }
        }
    }
}

/// A safetensors file with changes in its header, mostly with a length that fits.
fn changed_header(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = mutate::text(&[bytes[8..8 + n].to_vec()], random);
    if random.below(4) > 0 {
        bytes[..8].copy_from_slice(&(header.len() as u64).to_le_bytes());
    }
    bytes.splice(8..8 + n, header);
    bytes
}

/// A file of noise for two images and two steps of the network in `support::checkpoints`.
fn noise() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.safetensors");
    let values = [0.25; 2 * 2 * 3 * 64];
    let tensors = [("x_T", &[2, 3, 8, 8][..]), ("z", &[2, 2, 3, 8, 8])].map(|(name, shape)| {
        let data = &values[..shape.iter().product()];
        (name, TensorView { shape, data })
    });
    write_safetensors(&path, tensors, &BTreeMap::new(), StoreAs::F32).unwrap();
    fs::read(path).unwrap()
}
