//! Processes that train together: how this one finds the others, and how it ends.
//!
//! Rank 0 speaks for all. When a rank fails or dies, rank 0 says so and everyone ends.

#[cfg(feature = "mpi")]
mod with_mpi;

#[cfg(feature = "mpi")]
pub use with_mpi::Ranks;
#[cfg(not(feature = "mpi"))]
pub use without_mpi::Ranks;

/// What launchers of MPI tell each process they start: how many there are, and which it is. That
/// Slurm gives a job several tasks says nothing of how many run this program, so that is looked at
/// only where its step was started with PMIx.
const LAUNCHERS: [(&str, &str, Option<&str>); 4] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", None),
    ("PMI_SIZE", "PMI_RANK", None),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", None),
    ("SLURM_STEP_NUM_TASKS", "PMIX_RANK", Some("PMIX_RANK")),
];

/// What a launcher says of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Launch {
    /// The environment variable that says how many there are.
    variable: &'static str,
    size: usize,
    rank: Option<usize>,
}

impl Launch {
    /// What the launcher of this process says, when it has started more than one.
    fn found(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
        LAUNCHERS.into_iter().find_map(|(size_variable, rank_variable, besides)| {
            let is_meant = besides.is_none_or(|besides| variable(besides).is_some());
            let size = number(size_variable).filter(|size| *size > 1 && is_meant)?;
            Some(Launch { variable: size_variable, size, rank: number(rank_variable) })
        })
    }

    fn of_this_process() -> Option<Self> {
        Launch::found(|name| std::env::var(name).ok())
    }
}

/// Whether another process that was started together with this one says what this one would say.
pub fn is_told_by_another() -> bool {
    Launch::of_this_process().is_some_and(|launch| launch.rank.is_some_and(|rank| rank > 0))
}

#[cfg(not(feature = "mpi"))]
mod without_mpi {
    use super::Launch;
    use kao::ranks::{Alone, Group};
    use kao::{Error, Result};
    use std::path::Path;

    /// This process, alone.
    pub struct Ranks;

    impl Ranks {
        /// Refuses to be one of several: each would train the whole run.
        pub fn join(_: &Path) -> Result<Self> {
            let Some(Launch { variable, size, .. }) = Launch::of_this_process() else {
                return Ok(Ranks);
            };
            let problem = format!(
                "a launcher started {size} processes ({variable}), and in this build, which has \
                 no MPI, each would train the whole run"
            );
            Err(Error::invalid("ranks", problem).with_hint(
                "build it with `cargo build --release --features mpi`, or start one process",
            ))
        }

        /// The group that trains.
        pub fn group(&self) -> &dyn Group {
            &Alone
        }

        /// How many threads this rank gets, where so many are asked for.
        pub fn threads(&self, asked: Option<usize>) -> Option<usize> {
            asked
        }

        /// What to say of the ranks before they begin.
        pub fn in_words(&self) -> Option<String> {
            None
        }

        /// The work ended with `outcome`.
        pub fn leave(self, outcome: Result<()>, _: bool) -> Result<()> {
            outcome
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launch> {
        Launch::found(|name| {
            let of_name = variables.iter().find(|(known, _)| *known == name);
            of_name.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn launchers_are_known_by_what_they_say() {
        let launch = |variable, size, rank| Some(Launch { variable, size, rank });
        let open_mpi = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")];
        assert_eq!(found(&open_mpi), launch("OMPI_COMM_WORLD_SIZE", 4, Some(3)));
        assert_eq!(found(&[("PMI_SIZE", "2")]), launch("PMI_SIZE", 2, None));
        assert_eq!(found(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(found(&[("PMI_SIZE", "many")]), None);
        // A batch script of Slurm has tasks, whether or not it starts them.
        assert_eq!(found(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(found(&[("SLURM_STEP_NUM_TASKS", "8")]), None);
        let pmix = [("SLURM_STEP_NUM_TASKS", "8"), ("PMIX_RANK", "5")];
        assert_eq!(found(&pmix), launch("SLURM_STEP_NUM_TASKS", 8, Some(5)));
        assert_eq!(found(&[]), None);
    }
}
