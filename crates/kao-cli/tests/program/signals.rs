//! Stop signals: what was ignored stays ignored, saving is not cut short, and where there is
//! nothing to save the program ends at once.
#![cfg(unix)]

use crate::fixture::{kao, names, stoppable, workplace};
use crate::training::TRAIN;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LONG: &str = "--steps 1000000 --save-every 1000000 --sample-count 0";

fn wait_for_step(run: &Path) {
    let started = Instant::now();
    let log = || std::fs::read_to_string(run.join("logs/log.jsonl")).unwrap_or_default();
    while !log().contains("gradient_norm") {
        assert!(started.elapsed() < Duration::from_secs(300), "the run does not move");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

/// What `child` said until it ended, and with which code.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    (child.wait().unwrap().code(), words)
}

#[test]
fn repeated_signals_do_not_cut_saving_short() {
    let folder = workplace();
    let folder = folder.path();
    for (run, signal, pause) in [("term", "-TERM", 10), ("int", "-INT", 10), ("hup", "-HUP", 1200)]
    {
        let child = stoppable(folder, &format!("{TRAIN} {run} {LONG}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_step(&folder.join(run));
        send(signal, &child);
        std::thread::sleep(Duration::from_millis(pause));
        // It may have ended meanwhile.
        let _ = Command::new("kill").arg(signal).arg(child.id().to_string()).output();
        let (code, words) = ended(child);
        assert_eq!(code, Some(130), "{run}: {words}");
        let last = words.lines().last().unwrap();
        assert!(last.starts_with("stopped at step ") && last.contains(" and saved; "), "{words}");
        assert_eq!(names(&folder.join(run).join("checkpoints")).len(), 1, "{run}");
        kao(folder, &format!("train --resume --dry-run --out {run}")).ok();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_ignored_at_the_start_stays_ignored() {
    let folder = workplace();
    let folder = folder.path();
    for (run, name) in [("hup", "HUP"), ("int", "INT"), ("term", "TERM")] {
        // Children inherit what a shell ignores; `exec` keeps the number of the process.
        let script = format!("trap '' {name}; exec $KAO {TRAIN} {run} {LONG}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(folder)
            .env("KAO", env!("CARGO_BIN_EXE_kao"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        wait_for_step(&folder.join(run));
        send(&format!("-{name}"), &child);
        std::thread::sleep(Duration::from_millis(1000));
        assert!(child.try_wait().unwrap().is_none(), "SIG{name} was heeded");
        child.kill().unwrap();
        ended(child);
    }
}

#[test]
fn where_there_is_nothing_to_save_the_program_ends_at_once() {
    let folder = workplace();
    let folder = folder.path();
    // A step of this network takes many seconds.
    let arguments = "bench --preset anime64 --batch-size 64 --rounds 1000";
    let child = stoppable(folder, arguments).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    send("-TERM", &child);
    let started = Instant::now();
    let (code, words) = ended(child);
    assert_eq!((code, words.as_str()), (Some(130), "error: interrupted\n"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_file_that_may_not_grow_is_an_error_message() {
    let folder = workplace();
    let script = "ulimit -f 4; exec $KAO convert built-in model.safetensors";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path())
        .env("KAO", env!("CARGO_BIN_EXE_kao"))
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(
        words.starts_with("error: cannot write `model.safetensors`: File too large"),
        "{words}"
    );
    assert_eq!(names(folder.path()), ["faces", "small.toml"]);
}
