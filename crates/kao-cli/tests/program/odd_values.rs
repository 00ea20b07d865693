//! Every flag of every command with odd values: no panic, nothing that wraps around into years of
//! work unseen, and one short line that says what is wrong.

use crate::fixture::{kao, trained, with_model};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The commands with arguments that make little work. `NEW` is a name not used before.
const COMMANDS: &[&str] = &[
    "prepare FACES NEW --size 16",
    "draw --count 1 --size 16 --out NEW",
    "train --config small.toml --data FACES --out NEW --steps 1 --sample-count 0",
    "sample --model MODEL --count 1 --steps 1 --out NEW.png",
    "edit FACES/face-000000.png --mask FACES/face-000001.png --model MODEL --count 1 --steps 2 --out NEW.png",
    "interpolate --model MODEL --between 1,2 --frames 2 --steps 1 --out NEW.png",
    "recover --model MODEL --data FACES --count 1 --t 2 --out NEW.png",
    "encode FACES --model MODEL --count 1 --steps 1 --out NEW.safetensors",
    "compare --model MODEL --count 1 --samplers ddim --steps 1 --out NEW",
    "sweep --model MODEL --count 1 --max-steps 10 --out NEW",
    "eval --model MODEL --data FACES --count 2 --steps 1",
    "convert MODEL NEW.safetensors",
    "info MODEL",
    #[cfg(feature = "studio")]
    "studio --port 0",
    "bench --model MODEL --batch-size 1 --rounds 1 --warmup 0",
];

/// Commands without flags, and those of builds with a feature.
const LEFT_OUT: [&str; 4] = ["completions", "man", "fetch", "studio"];

/// What is given to each flag, besides a text of 5000 letters.
const VALUES: [&str; 8] =
    ["0", "-1", "NaN", "inf", "1e309", "18446744073709551615", "18446744073709551616", ""];

/// Some values are right and ask for work without an end; it is ended then.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The flags of a command that take a value, as its help has them.
fn flags(command: &str) -> Vec<String> {
    let help = kao(trained(), &format!("{command} --help")).ok().out;
    let words = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let flags = words.filter_map(|line| {
        let (flag, rest) = line[line.find("--")?..].split_once(' ')?;
        rest.starts_with('<').then(|| flag.to_owned())
    });
    flags.collect()
}

/// What is wrong with how the program answers `arguments`, if anything is.
fn fault(folder: &Path, arguments: &[String]) -> Option<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kao"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let mut was_ended = false;
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            was_ended = true;
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let n_errors = words.lines().filter(|line| line.starts_with("error: ")).count();
    let is_right = match output.status.code() {
        Some(0) => n_errors == 0,
        Some(1 | 2) => n_errors == 1,
        _ => was_ended && n_errors == 0,
    };
    let longest = words.lines().map(str::len).max().unwrap_or(0);
    if is_right && !words.contains("panicked") && longest < 500 {
        return None;
    }
    let shown: Vec<String> = arguments.iter().map(|word| word.chars().take(40).collect()).collect();
    let words: String = words.chars().take(600).collect();
    Some(format!("{}: {}, longest line {longest}\n{words}", shown.join(" "), output.status))
}

#[test]
fn odd_values_of_all_flags_are_answered_in_one_short_line() {
    let (folder, commands) = with_model(&COMMANDS.join("\n"));
    let folder = folder.path();
    std::fs::write(folder.join("small.toml"), crate::fixture::CONFIG).unwrap();
    let long = "x".repeat(5000);
    for command in crate::examples::commands() {
        let is_there = commands.lines().any(|line| line.split(' ').next() == Some(&command));
        let is_left_out = LEFT_OUT.contains(&command.as_str());
        assert!(is_there || is_left_out, "`COMMANDS` has no line of `{command}`");
    }
    let mut cases = Vec::new();
    for line in commands.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let flags = flags(words[0]);
        assert!(flags.len() >= usize::from(words[0] != "convert"), "{line}: {flags:?}");
        for flag in &flags {
            for value in VALUES.into_iter().chain([long.as_str()]) {
                let new = format!("new-{}", cases.len());
                let mut arguments: Vec<String> =
                    words.iter().map(|word| word.replace("NEW", &new)).collect();
                if let Some(at) = arguments.iter().position(|word| word == flag) {
                    arguments.drain(at..at + 2);
                }
                arguments.extend([flag.clone(), value.to_owned()]);
                cases.push(arguments);
            }
        }
    }
    assert!(cases.len() > 500, "{}", cases.len());
    let (next, faults) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().unwrap().next() else { break };
                    faults.lock().unwrap().extend(fault(folder, case));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}
