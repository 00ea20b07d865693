//! Running the program in a folder of its own, and a small trained model for tests that need one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The configuration of runs that take a second.
pub const CONFIG: &str = "\
steps = 12
batch_size = 4
micro_batch_size = 2
log_every = 1
save_every = 4
sample_count = 2
sample_steps = 2
validation_images = 4
learning_rate = 1e-3
ema_halflife_images = 10.0

[model]
image_size = [3, 16, 16]
ch = 32
ch_mult = [1, 2]
attn = [1]
num_res_blocks = 1
dropout = 0.1
";

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The `error:` line, of which there is exactly one; nothing may look like a panic.
    pub fn error(&self) -> &str {
        let lines: Vec<&str> =
            self.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        lines[0]
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// The program with `arguments`, which are parted at spaces, to be run in `folder`.
pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kao"));
    command.current_dir(folder).args(arguments.split_whitespace()).stdin(Stdio::null());
    // Nothing goes to the home folder of whoever runs the tests.
    command.env("XDG_CACHE_HOME", folder.join("caches"));
    command
}

/// As [`command`], for a program that is to be stopped by signals: whatever runs the tests may
/// ignore some, and children inherit that.
#[cfg(unix)]
pub fn stoppable(folder: &Path, arguments: &str) -> Command {
    let program = command(folder, arguments);
    let ignored = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let numbers: Vec<String> = [1, 2, 15]
        .into_iter()
        .filter(|n| mask >> (n - 1) & 1 == 1)
        .map(|n| n.to_string())
        .collect();
    if numbers.is_empty() {
        return program;
    }
    let mut through = Command::new("env");
    through.arg(format!("--default-signal={}", numbers.join(",")));
    through.arg(program.get_program()).args(program.get_args());
    through.current_dir(folder).stdin(Stdio::null());
    through
}

/// Runs the program to its end.
pub fn kao(folder: &Path, arguments: &str) -> Ran {
    Ran::new(command(folder, arguments).output().unwrap())
}

/// A folder with 24 faces in `faces` and the small configuration in `small.toml`.
pub fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    kao(folder.path(), "draw --count 24 --size 16 --out faces").ok();
    std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
    folder
}

static TRAINED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = workplace();
    let arguments = "train --config small.toml --data faces --out run --steps 4 --min-tag-count 1";
    kao(folder.path(), arguments).ok();
    folder
});

/// A folder with `faces` and a trained `run`, which nobody changes.
pub fn trained() -> &'static Path {
    TRAINED.path()
}

/// The trained run's model.
pub fn model() -> PathBuf {
    trained().join("run/model.safetensors")
}

/// An empty folder, and the arguments with `MODEL` and `FACES` replaced by what is in [`trained`].
pub fn with_model(arguments: &str) -> (TempDir, String) {
    let faces = trained().join("faces");
    let arguments = arguments
        .replace("MODEL", model().to_str().unwrap())
        .replace("FACES", faces.to_str().unwrap());
    (tempfile::tempdir().unwrap(), arguments)
}

/// The names in `folder`, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
