//! Reading damaged files of one kind after another, within bounds.

use crate::bounds::{self, watched};
use crate::support::mutate::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Messages are at most this long.
const MAX_MESSAGE_CHARS: usize = 500;

/// Faults that end a run.
const MAX_FAULTS: usize = 10;

/// What reading a file came to.
pub enum Outcome {
    Read,
    Refused(String),
}

impl<T> From<kao::Result<T>> for Outcome {
    fn from(result: kao::Result<T>) -> Self {
        match result {
            Ok(_) => Outcome::Read,
            Err(error) => {
                assert!(error.hint().unwrap_or_default().chars().count() <= MAX_MESSAGE_CHARS);
                Outcome::Refused(error.to_string())
            }
        }
    }
}

/// Makes a damaged file from whole ones.
pub type Mutate<'a> = &'a dyn Fn(&[Vec<u8>], &mut Random) -> Vec<u8>;

/// A kind of file.
pub struct Kind<'a> {
    pub name: &'a str,
    /// Whole files.
    pub corpus: Vec<Vec<u8>>,
    /// How many damaged files are tried unless the environment says otherwise.
    pub default_mutations: u64,
    pub mutate: Mutate<'a>,
    /// Reads a file, which is at the path and whose content is given. It may panic, which is a fault.
    pub read: &'a mut dyn FnMut(&Path, &[u8]) -> Outcome,
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Reads the whole files of a kind, which must succeed, and damaged ones, which must end in something
/// read or in a message, within bounds of time and memory.
pub fn run(kind: &mut Kind<'_>) {
    let _alone = bounds::alone();
    let folder = tempfile::tempdir().unwrap();
    // Left there by a file that ends the process.
    let path = folder.path().join(format!("kao-hostile-{}", kind.name));
    let name = kind.name;
    for (number, content) in kind.corpus.iter().enumerate() {
        std::fs::write(&path, content).unwrap();
        if let Outcome::Refused(message) = (kind.read)(&path, content) {
            panic!("{name}: whole file {number}: {message}");
        }
    }
    let n_files = from_environment("KAO_MUTATIONS", kind.default_mutations);
    let seed = from_environment("KAO_MUTATION_SEED", 1);
    let first = from_environment("KAO_MUTATION_FIRST", 0);
    let started = std::time::Instant::now();
    let (mut n_read, mut faults) = (0, Vec::new());
    let mut longest = std::time::Duration::ZERO;
    let mut most = 0;
    for number in first..first + n_files {
        let content = (kind.mutate)(&kind.corpus, &mut Random::new(seed, number));
        std::fs::write(&path, &content).unwrap();
        let (outcome, taken) =
            watched(|| catch_unwind(AssertUnwindSafe(|| (kind.read)(&path, &content))));
        longest = longest.max(taken.time);
        most = most.max(taken.bytes.unwrap_or(0));
        let fault = match outcome {
            _ if !taken.is_within_bounds() => Some(format!("{taken:?}")),
            Err(_) => Some("a panic".to_owned()),
            Ok(Outcome::Read) => {
                n_read += 1;
                None
            }
            Ok(Outcome::Refused(message)) => {
                let is_short = message.chars().count() <= MAX_MESSAGE_CHARS;
                (!is_short || message.contains('\n')).then(|| format!("the message {message:.600}"))
            }
        };
        if let Some(fault) = fault {
            let kept = std::env::temp_dir().join(format!("kao-{name}-{seed}-{number}"));
            std::fs::write(&kept, &content).unwrap();
            faults.push(format!("seed {seed}, file {number} ({}): {fault}", kept.display()));
            if faults.len() == MAX_FAULTS {
                break;
            }
        }
    }
    println!(
        "{name}: {n_read} of {n_files} damaged files could still be read, in {:.1?}; at most \
         {longest:.1?} and {:.1} MiB for one",
        started.elapsed(),
        most as f64 / f64::from(1 << 20)
    );
    assert!(faults.is_empty(), "{name}:\n{}", faults.join("\n"));
    assert!(n_read > 0 && n_read < n_files, "{name}: the damage is none, or total");
}
