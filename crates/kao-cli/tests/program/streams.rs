//! Standard output that nobody reads, or that is full.

use crate::fixture::{command, trained};
use std::fs::OpenOptions;
use std::process::Stdio;

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for arguments in [
        "info run --tensors",
        "sample --quiet --model run --count 1 --steps 1 --out pipe.png",
        "--help",
    ] {
        let mut child = command(trained(), arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments}: {output:?}");
    }
}

#[test]
fn a_missing_listener_on_standard_error_is_no_panic() {
    let mut child = command(trained(), "info missing").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn full_standard_output_is_told() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(trained(), "info run").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        words,
        "error: cannot write `standard output`: No space left on device (os error 28)\n"
    );
}
