//! The program on several ranks, started by `mpirun` on one machine: the same bytes on any number of
//! ranks, however often they are stopped, killed and started again.
//!
//! `cargo test --release --workspace --features kao-cli/mpi --test mpi`; needs Open MPI.
#![cfg(target_os = "linux")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const N_STEPS: u64 = 50;

/// Eight micro-batches a step, dropout, tags and an average.
const CONFIG: &str = "\
steps = 50
batch_size = 15
micro_batch_size = 2
log_every = 1
save_every = 10
sample_count = 5
sample_steps = 2
validation_images = 6
learning_rate = 1e-3
ema_halflife_images = 40.0

[model]
image_size = [3, 16, 16]
ch = 16
ch_mult = [1, 2]
attn = [1]
num_res_blocks = 1
dropout = 0.1
norm_groups = 4
";

const TRAIN: &str = "train --config small.toml --data faces --min-tag-count 1 --threads 1 --out";

/// As long as nobody is to wait for ranks that do not end.
const SECONDS: Duration = Duration::from_secs(10);

/// A folder with faces that have tags, and a configuration.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut draw = Command::new(env!("CARGO_BIN_EXE_kao"));
    draw.args("draw --count 60 --size 16 --out faces".split(' ')).current_dir(&folder);
    assert!(draw.output().unwrap().status.success());
    std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
    folder
}

/// `mpirun` with these arguments, which are parted at spaces; `KAO` stands for the program.
fn mpirun(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--allow-run-as-root"]);
    let program = |word: &str| match word {
        "KAO" => env!("CARGO_BIN_EXE_kao").to_owned(),
        word => word.to_owned(),
    };
    command.args(arguments.split_whitespace().map(program));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// What `mpirun` came to, and both streams of all ranks.
fn ran(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn train(folder: &Path, n_ranks: usize, run: &str, more: &str) -> String {
    let (code, words) = ran(mpirun(folder, &format!("-n {n_ranks} KAO {TRAIN} {run} {more}")));
    assert_eq!(code, Some(0), "{words}");
    words
}

/// The files of a run that do not depend on time.
fn files(run: &Path, n_steps: u64) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths = vec![
        PathBuf::from("model.safetensors"),
        PathBuf::from(format!("checkpoints/step-{n_steps:08}.safetensors")),
    ];
    for entry in run.join("samples").read_dir().unwrap() {
        paths.push(entry.unwrap().path().strip_prefix(run).unwrap().to_owned());
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(run.join(path)).unwrap())).collect()
}

fn assert_same(folder: &Path, a: &str, b: &str, n_steps: u64) {
    let [of_a, of_b] = [a, b].map(|run| files(&folder.join(run), n_steps));
    let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(names(&of_a), names(&of_b), "{a} and {b}");
    for ((path, one), (_, other)) in of_a.iter().zip(&of_b) {
        assert!(one == other, "{} of {a} and {b} differ", path.display());
    }
}

/// The newest step in the log of a run.
fn newest_step(run: &Path) -> u64 {
    let log = std::fs::read_to_string(run.join("logs/log.jsonl")).unwrap_or_default();
    let mut steps = log.lines().filter(|line| line.contains("gradient_norm")).filter_map(|line| {
        let (_, rest) = line.split_once("\"step\":")?;
        rest.split([',', '}']).next()?.trim().parse().ok()
    });
    steps.next_back().unwrap_or(0)
}

fn wait_for_step(run: &Path, step: u64) {
    let started = Instant::now();
    while newest_step(run) < step {
        assert!(started.elapsed() < Duration::from_secs(300), "the run does not move");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// `mpirun`, started.
struct Started {
    child: Child,
    words: std::thread::JoinHandle<String>,
}

impl Started {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        // Read at once: a full pipe would hold the ranks up.
        let words = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Started { child, words }
    }

    /// The processes of the ranks, as soon as there are `n` of them.
    fn ranks(&self, n: usize) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let started = Instant::now();
        loop {
            let children = std::fs::read_to_string(&path).unwrap_or_default();
            let is_rank = |pid: &u32| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                name.is_ok_and(|name| name.trim() == "kao")
            };
            let pids: Vec<u32> =
                children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
            let ranks: Vec<u32> = pids.into_iter().filter(is_rank).collect();
            if ranks.len() == n {
                return ranks;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{children}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str) {
        send(signal, self.child.id());
    }

    /// How it ended, and after how long.
    fn ended(mut self) -> (Option<i32>, String, Duration) {
        let started = Instant::now();
        let code = self.child.wait().unwrap().code();
        let took = started.elapsed();
        (code, self.words.join().unwrap(), took)
    }
}

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").arg(signal).arg(pid.to_string()).status().unwrap();
    assert!(status.success());
}

fn is_running(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != Some('Z'))
}

#[test]
fn any_number_of_ranks_gives_the_same_bytes() {
    let folder = workplace();
    let folder = folder.path();
    for n_ranks in [1, 2, 3, 4] {
        let words = train(folder, n_ranks, &format!("on-{n_ranks}"), "");
        // One rank speaks.
        assert_eq!(words.matches("steps to go").count(), 1, "{words}");
        assert_eq!(words.matches("model.safetensors").count(), 1, "{words}");
    }
    for n_ranks in [2, 3, 4] {
        assert_same(folder, "on-1", &format!("on-{n_ranks}"), N_STEPS);
    }
    let kao = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kao"));
        ran({
            command.args(arguments.split(' ')).current_dir(folder);
            command
        })
    };
    let (code, words) = kao("info on-4");
    assert_eq!(code, Some(0), "{words}");
    for (row, content) in [("ranks ", " 4: "), ("slowest rank ", " on "), ("communication ", " %")]
    {
        let is_it = |line: &str| line.starts_with(row) && line.contains(content);
        assert!(words.lines().any(is_it), "{words}");
    }
    let (_, words) = kao("info on-1");
    assert!(!words.contains("slowest rank"), "{words}");
}

#[test]
fn a_run_is_stopped_and_goes_on_with_fewer_ranks() {
    let folder = workplace();
    let folder = folder.path();
    // Long enough not to end before it is stopped.
    const RUN: &str = "--save-every 100000 --sample-count 2 --learning-rate-decay constant";
    let run = folder.join("parts");
    // Sent by a user, and by a cluster to warn of the end of a job.
    for (n_ranks, signal, more) in [(3, "-TERM", ""), (2, "-USR1", "--resume")] {
        let more = format!("{RUN} --steps 100000 {more}");
        let before = newest_step(&run);
        let mut command = mpirun(folder, &format!("-n {n_ranks} KAO {TRAIN} parts {more}"));
        // Of SIGTERM mpirun makes one for the ranks after so many seconds, and SIGKILL after as many
        // more. One is enough on a machine that has nothing else to do.
        command.env("OMPI_MCA_odls_base_sigkill_timeout", "3");
        let started = Started::new(command);
        wait_for_step(&run, before + 4);
        started.signal(signal);
        let (code, words, _) = started.ended();
        assert!(words.contains("stopped at step ") && words.contains(" and saved;"), "{words}");
        assert_ne!(code, Some(0), "{words}");
    }
    // To a step that it has not reached yet.
    let n_steps = newest_step(&run) + 3;
    let end = |run: &str, more: &str, n_ranks: usize| {
        let more = format!("{RUN} --steps {n_steps} {more}");
        train(folder, n_ranks, run, &more);
    };
    end("parts", "--resume", 1);
    end("whole", "", 4);
    assert_same(folder, "whole", "parts", n_steps);
}

#[test]
fn a_rank_that_is_killed_ends_the_others_and_loses_nothing() {
    const N_KILLS: u64 = 10;
    let folder = workplace();
    let folder = folder.path();
    let more = "--steps 120 --save-every 5 --sample-count 2";
    train(folder, 1, "whole", more);
    let run = folder.join("killed");
    // Numbers that look random, and are the same in every run of this test.
    let random = |k: u64, below: u64| k.wrapping_mul(0x9E37_79B9_7F4A_7C15) % below;
    for k in 0..N_KILLS {
        let has_checkpoint =
            run.join("checkpoints").read_dir().is_ok_and(|mut entries| entries.next().is_some());
        let resume = if has_checkpoint { "--resume" } else { "" };
        // The last two are left alone by the launcher, as some leave them.
        let launcher = if k + 2 >= N_KILLS { "--enable-recovery" } else { "" };
        let before = newest_step(&run);
        let started = Started::new(mpirun(
            folder,
            &format!("{launcher} -n 3 KAO {TRAIN} killed {more} {resume}"),
        ));
        let ranks = started.ranks(3);
        match k % 4 {
            // While the ranks find each other.
            3 => std::thread::sleep(Duration::from_millis(random(k, 500))),
            _ => {
                wait_for_step(&run, before + 1);
                wait_for_step(&run, newest_step(&run) + random(k, 5));
            }
        }
        let victim = ranks[random(k + 77, 3) as usize];
        send("-KILL", victim);
        let killed = Instant::now();
        while ranks.iter().any(|&rank| is_running(rank)) {
            assert!(killed.elapsed() < SECONDS, "ranks go on after kill {k} of {ranks:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (code, words, _) = started.ended();
        assert!(code != Some(0) || !launcher.is_empty(), "kill {k}: {words}");
    }
    let resume = format!("{more} --resume");
    train(folder, 2, "killed", &resume);
    assert_same(folder, "whole", "killed", 120);
}

#[test]
fn the_first_of_those_that_are_left_says_who_is_gone() {
    let folder = workplace();
    let folder = folder.path();
    for (victim, resume) in [(2, ""), (0, "--resume")] {
        let command = format!("-n 3 KAO {TRAIN} run --steps 100000 --sample-count 0 {resume}");
        let started = Started::new(mpirun(folder, &command));
        let ranks = started.ranks(3);
        wait_for_step(&folder.join("run"), newest_step(&folder.join("run")) + 12);
        let of_rank = |rank: usize| {
            let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
            let has = |pid: &&u32| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
            };
            *ranks.iter().find(has).unwrap()
        };
        send("-KILL", of_rank(victim));
        let (_, words, took) = started.ended();
        assert!(took < SECONDS, "{took:?}");
        assert!(words.contains(&format!("error: rank {victim} on ")), "{words}");
        assert!(words.contains("hint: the newest checkpoint is `run/checkpoints/step-"), "{words}");
    }
}

#[test]
fn ranks_that_do_not_agree_are_refused() {
    let folder = workplace();
    let (here, there) = (folder.path(), folder.path().join("there"));
    std::fs::create_dir(&there).unwrap();
    let app = |more: &str| format!("KAO {TRAIN} run {more}");
    let refused = |arguments: &str| {
        let (code, words) = ran(mpirun(here, arguments));
        assert_eq!(code, Some(2), "{words}");
        assert!(!here.join("run/model.safetensors").exists(), "{words}");
        words.lines().find(|line| line.starts_with("error: ")).unwrap().to_owned()
    };
    let message = refused(&format!("-n 2 {} : -n 1 {}", app("--seed 1"), app("--seed 2")));
    assert!(
        message.contains("error: ranks: they do not agree: --seed is 2 at rank 2"),
        "{message}"
    );
    // Portable instructions are everywhere; a machine that has no others agrees with itself.
    if kao_kernels_are_vectorized() {
        let portable = format!("-x KAO_SIMD=portable {}", app(""));
        let message = refused(&format!("-n 1 {} : -n 1 {portable}", app("")));
        assert!(message.contains("instructions is portable at rank 1"), "{message}");
        assert!(message.contains("see above"), "{message}");
    }
    // Other pictures in a folder of the same name.
    std::fs::copy(here.join("small.toml"), there.join("small.toml")).unwrap();
    let mut draw = Command::new(env!("CARGO_BIN_EXE_kao"));
    draw.args("draw --count 59 --size 16 --out faces".split(' ')).current_dir(&there);
    assert!(draw.output().unwrap().status.success());
    let elsewhere = |folder: &Path| format!("-wdir {} {}", folder.display(), app(""));
    let message = refused(&format!("-n 1 {} : -n 1 {}", app(""), elsewhere(&there)));
    assert!(message.contains("checksum of the pictures is "), "{message}");
    assert!(message.contains(" at rank 1 on "), "{message}");
    // And none at all.
    std::fs::remove_dir_all(there.join("faces")).unwrap();
    std::fs::remove_dir_all(here.join("run")).unwrap();
    let (code, words) =
        ran(mpirun(here, &format!("-n 1 {} : -n 1 {}", app(""), elsewhere(&there))));
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("error: rank 1 failed: cannot read `faces`"), "{words}");
}

/// Whether the program uses other instructions than portable ones here.
fn kao_kernels_are_vectorized() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
}
