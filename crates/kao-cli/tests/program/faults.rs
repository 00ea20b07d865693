//! `train`, when things go wrong: killed at any moment, within a write, out of disk, files damaged.
//! What is there at the end is what an undisturbed run leaves.

use crate::fixture::{command, kao, names, workplace};
use crate::training::{TRAIN, assert_same};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn checkpoint(run: &Path, n_steps: u64) -> std::path::PathBuf {
    run.join(format!("checkpoints/step-{n_steps:08}.safetensors"))
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_used() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} whole --keep-checkpoints 3")).ok();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }),
        ("position", |bytes| {
            // The number of pictures seen, in the header.
            let key = b"n_images";
            let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
            let digit = bytes[at..].iter().position(u8::is_ascii_digit).unwrap();
            bytes[at + digit] ^= 1;
        }),
        ("empty", Vec::clear),
    ];
    for (run, damage) in damages {
        kao(folder, &format!("{TRAIN} {run} --steps 8 --keep-checkpoints 3")).ok();
        let run_path = folder.join(run);
        let newest = checkpoint(&run_path, 8);
        let mut bytes = std::fs::read(&newest).unwrap();
        damage(&mut bytes);
        std::fs::write(&newest, bytes).unwrap();

        let ran = kao(folder, &format!("train --resume --out {run} --steps 12")).ok();
        let named = format!("warning: `{run}/checkpoints/step-00000008.safetensors`");
        assert!(ran.err.contains(&named), "{ran:?}");
        let used = format!("resuming from `{run}/checkpoints/step-00000004.safetensors`");
        assert!(ran.err.contains(&used), "{ran:?}");
        assert!(run_path.join("checkpoints/step-00000008.damaged").exists());
        assert_same(folder, "whole", run, 12);
    }

    // With none left that is whole, nothing is touched.
    let run = folder.join("flipped");
    for name in names(&run.join("checkpoints")) {
        std::fs::write(run.join("checkpoints").join(name), b"no checkpoint").unwrap();
    }
    let before = names(&run.join("checkpoints"));
    let ran = kao(folder, "train --resume --out flipped --steps 20");
    assert!(ran.error().contains("step-00000012.safetensors"), "{ran:?}");
    assert_eq!(names(&run.join("checkpoints")), before);
}

#[test]
fn what_is_no_folder_is_named() {
    let folder = workplace();
    let folder = folder.path();
    std::fs::write(folder.join("file"), b"").unwrap();
    let ran = kao(folder, &format!("{TRAIN} file"));
    assert!(ran.error().contains("`file"), "{ran:?}");
    kao(folder, &format!("{TRAIN} run --steps 4")).ok();
    std::fs::remove_dir_all(folder.join("run/checkpoints")).unwrap();
    std::fs::write(folder.join("run/checkpoints"), b"").unwrap();
    let ran = kao(folder, "train --resume --out run");
    assert!(ran.error().contains("run/checkpoints"), "{ran:?}");
}

/// Pseudo-random numbers below `bound`, the same in every run of the test.
fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound.max(1)
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same() {
    const KILLS: usize = 30;
    let options = "--steps 150 --save-every 3 --keep-checkpoints 1 --sample-count 1";
    let folder = workplace();
    let folder = folder.path();
    let started = Instant::now();
    kao(folder, &format!("{TRAIN} whole {options}")).ok();
    let whole = started.elapsed();

    let run = folder.join("killed");
    let mut seed = 7;
    let mut n_kills = 0;
    while n_kills < KILLS {
        let resume = !names_or_none(&run.join("checkpoints")).is_empty();
        let arguments = match resume {
            true => "train --resume --out killed".to_owned(),
            false => format!("{TRAIN} killed {options}"),
        };
        let mut child = command(folder, &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // On average a fifteenth of the run.
        let most = whole.as_micros() as u64 * 2 / 15;
        std::thread::sleep(Duration::from_micros(random(&mut seed, most)));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments}: {status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        n_kills += 1;
    }
    assert!(n_kills >= 5, "the run was over after {n_kills} kills");
    if names_or_none(&run.join("checkpoints")).is_empty() {
        kao(folder, &format!("{TRAIN} killed {options}")).ok();
    } else {
        kao(folder, "train --resume --out killed").ok();
    }
    assert_same(folder, "whole", "killed", 150);
    let left = names(&run.join("checkpoints"));
    assert!(left.iter().all(|name| name.starts_with("step-")), "{left:?}");
}

fn names_or_none(folder: &Path) -> Vec<String> {
    if folder.exists() { names(folder) } else { Vec::new() }
}

/// Runs a shell script in `folder` with the program as `$KAO`.
#[cfg(unix)]
fn shell(folder: &Path, before: &[&str], script: &str) -> std::process::Output {
    let mut words = before.iter().copied().chain(["sh", "-c", script]);
    Command::new(words.next().unwrap())
        .args(words)
        .current_dir(folder)
        .env("KAO", env!("CARGO_BIN_EXE_kao"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_write_that_is_cut_in_the_middle_leaves_the_checkpoint_before_it() {
    use std::os::unix::process::ExitStatusExt;
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} whole")).ok();
    kao(folder, &format!("{TRAIN} cut --steps 4")).ok();
    let run = folder.join("cut");
    let n_blocks = std::fs::metadata(checkpoint(&run, 4)).unwrap().len() / 2 / 512;
    // The system ends a process that writes more than it may, in the middle of the checkpoint: a
    // model has a quarter of its size. (Blocks are of 512 bytes, in some shells of 1024.)
    let script = format!("ulimit -f {n_blocks}; exec $KAO train --resume --out cut --steps 12");
    let output = shell(folder, &[], &script);
    assert!(output.status.signal().is_some() || !output.status.success(), "{output:?}");
    assert_eq!(names(&run.join("checkpoints")).last().unwrap(), "step-00000004.safetensors");
    kao(folder, "train --resume --out cut --steps 12").ok();
    assert_same(folder, "whole", "cut", 12);
    let left = names(&run.join("checkpoints"));
    assert!(left.iter().all(|name| name.starts_with("step-")), "{left:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_costs_nothing_that_was_saved() {
    let folder = workplace();
    let folder = folder.path();
    kao(folder, &format!("{TRAIN} whole")).ok();
    let size = std::fs::metadata(checkpoint(&folder.join("whole"), 12)).unwrap().len();
    // A file system in memory, seen by this script alone.
    let alone = ["unshare", "--user", "--map-root-user", "--mount"];
    std::fs::create_dir(folder.join("disk")).unwrap();
    let mount = "mount -t tmpfs -o size=64m tmpfs disk";
    let can_mount = Command::new("unshare").arg("--version").output().is_ok()
        && shell(folder, &alone, mount).status.success();
    if !can_mount {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let script = format!(
        "{mount} && $KAO {TRAIN} disk/run --steps 4 && \
         head -c $((64 * 1024 * 1024)) /dev/zero > disk/ballast; \
         truncate -s -{} disk/ballast && \
         $KAO train --resume --out disk/run --steps 12; echo \"exit $?\" >&2; \
         ls disk/run/checkpoints >&2; rm disk/ballast && \
         $KAO train --resume --out disk/run --steps 12 && cp -r disk/run full",
        size / 2
    );
    let output = shell(folder, &alone, &script);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    assert!(words.contains("error: cannot write `disk/run/"), "{words}");
    assert!(words.contains("No space left on device"), "{words}");
    assert!(words.contains("exit 1\nstep-00000004.safetensors\n"), "{words}");
    assert_same(folder, "whole", "full", 12);
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = workplace();
    let folder = folder.path();
    let set_mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [("", 0o755), ("closed", 0o000), ("open", 0o777)] {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        set_mode(&path, mode);
    }
    // To root nothing is closed.
    let is_root = std::fs::read_dir(folder.join("closed")).is_ok();
    let somebody = ["setpriv", "--reuid=65534", "--clear-groups"];
    let as_whom: &[&str] = if is_root { &somebody } else { &[] };
    let can_run = !is_root
        || Command::new("setpriv").arg("--version").output().is_ok()
            && shell(folder, as_whom, "$KAO --version").status.success();
    if can_run {
        for (arguments, named) in [
            ("--data closed --out open/run", "`closed`"),
            ("--data faces --out closed/run", "`closed"),
        ] {
            let script = format!("$KAO train --config small.toml {arguments}");
            let output = shell(folder, as_whom, &script);
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{words}");
            assert!(words.contains(named) && words.contains("Permission denied"), "{words}");
        }
    } else {
        eprintln!("skipped: the program cannot be run as somebody else here");
    }
    set_mode(&folder.join("closed"), 0o755);
}
