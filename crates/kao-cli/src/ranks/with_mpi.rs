//! The ranks that a launcher of MPI started.

use super::Launch;
use crate::interrupt;
use crate::output::{be_silent, complain, note};
use crate::usage;
use kao::ranks::lifeline::{Ending, Lifeline};
use kao::ranks::mpi::MpiGroup;
use kao::ranks::{Alone, Group, agreement};
use kao::train::{CHECKPOINTS, checkpoint};
use kao::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

/// How long a rank that failed waits for rank 0 to say why, and to end all.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The processes that train together, this one among them.
pub struct Ranks {
    /// `None` where this process is alone.
    joined: Option<Joined>,
}

struct Joined {
    group: MpiGroup,
    hosts: Vec<String>,
    lifeline: Option<Lifeline>,
}

impl Ranks {
    /// Finds the others. Only rank 0 speaks from now on. A rank that dies ends the program; `out` is
    /// the run directory, where what was saved is.
    pub fn join(out: &Path) -> Result<Self> {
        let Some(launch) = Launch::of_this_process() else { return Ok(Ranks { joined: None }) };
        let group = MpiGroup::join()?;
        if group.size() != launch.size {
            let problem = format!(
                "the launcher started {} processes ({}), and MPI finds {}",
                launch.size,
                launch.variable,
                group.size()
            );
            return Err(Error::invalid("ranks", problem).with_hint(
                "start it with the launcher of the MPI that it was built with (`mpirun --version`)",
            ));
        }
        if !group.is_first() {
            be_silent();
        }
        let hosts = agreement::hosts(&group)?;
        let lifeline = {
            let (own, out) = (group.rank(), out.to_path_buf());
            let (known, hosts) = (hosts.clone(), hosts.clone());
            let on_end = move |rank, ending| end(own, rank, &ending, &hosts, &out);
            Lifeline::connect(&group, &known, on_end)?
        };
        if lifeline.is_none() {
            note(
                "warning: not all ranks can connect to rank 0 by TCP: when one of them dies, it is \
                 up to the launcher to end the others",
            );
        }
        if std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some()
            && std::env::var_os("OMPI_MCA_odls_base_sigkill_timeout").is_none()
        {
            note(
                "hint: after Ctrl-C mpirun gives its ranks a second to save; SIGUSR1 to mpirun gives \
                 them all the time that they need",
            );
        }
        Ok(Ranks { joined: Some(Joined { group, hosts, lifeline }) })
    }

    /// The group that trains.
    pub fn group(&self) -> &dyn Group {
        match &self.joined {
            Some(joined) => &joined.group,
            None => &Alone,
        }
    }

    /// How many threads this rank gets, where so many are asked for. By default the ranks of a
    /// machine share its cores, unless the launcher has given each its own.
    pub fn threads(&self, asked: Option<usize>) -> Option<usize> {
        let joined = self.joined.as_ref().filter(|_| asked.is_none());
        joined.map_or(asked, |joined| {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            match is_bound() {
                true => Some(available),
                false => Some((available / joined.n_here()).max(1)),
            }
        })
    }

    /// What to say of the ranks before they begin.
    pub fn in_words(&self) -> Option<String> {
        let Joined { group, hosts, .. } = self.joined.as_ref()?;
        let mut machines = hosts.clone();
        machines.sort_unstable();
        machines.dedup();
        let words = match machines.as_slice() {
            [one] => format!("on {one}"),
            several => format!("on {} machines", several.len()),
        };
        let n = rayon::current_num_threads();
        let threads = if n == 1 { "1 thread".to_owned() } else { format!("{n} threads") };
        Some(format!("{} ranks {words}; this one has {threads}", group.size()))
    }

    /// The work ended with `outcome`, which is told by rank 0 alone. A failure to plan the run is
    /// that of all ranks.
    pub fn leave(self, outcome: Result<()>, is_planned: bool) -> Result<()> {
        let Some(Joined { group, lifeline, .. }) = self.joined else { return outcome };
        let is_first = group.is_first();
        match outcome {
            Err(error) if is_planned && !is_everywhere(&error) => {
                fail(group.rank(), &error, lifeline)
            }
            outcome => {
                // Waits for all others, one of which may still fail.
                drop(group);
                if let Some(lifeline) = lifeline {
                    lifeline.leave();
                }
                if is_first { outcome } else { Ok(()) }
            }
        }
    }
}

impl Joined {
    /// How many ranks there are on this machine.
    fn n_here(&self) -> usize {
        let own = &self.hosts[self.group.rank()];
        self.hosts.iter().filter(|host| *host == own).count()
    }
}

/// Whether every rank of a run under way ends with such an error, when one does.
fn is_everywhere(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Diverged { .. } | ErrorKind::Interrupted | ErrorKind::Rank { .. } => true,
        // What the ranks compare before the first step.
        ErrorKind::Invalid { field, .. } => field == "ranks",
        _ => false,
    }
}

/// Ends the program after an error that others do not have.
fn fail(rank: usize, error: &Error, lifeline: Option<Lifeline>) -> ! {
    let words = usage::in_one_line(error);
    match lifeline {
        _ if rank == 0 => {
            let _ = usage::tell(error);
            if let Some(lifeline) = lifeline {
                lifeline.fail("");
            }
        }
        // Rank 0 tells it.
        Some(lifeline) => {
            lifeline.fail(&words);
            std::thread::sleep(LAST_WORDS);
        }
        None => complain(format!("error: rank {rank}: {words}")),
    }
    std::process::exit(usage::exit_code(error).into());
}

/// Ends this rank, which is number `own`, after rank `rank` has ended.
fn end(own: usize, rank: usize, ending: &Ending, hosts: &[String], out: &Path) {
    let host = hosts.get(rank).map_or("an unknown machine", String::as_str);
    // Of those that are left, the first one speaks.
    let speaks = own == 0 || rank == 0 && own == 1;
    let is_plain_stop = interrupt::asked() && !interrupt::is_saving();
    let words = match ending {
        _ if !speaks || is_plain_stop => None,
        Ending::Gone => Some(format!("rank {rank} on {host} is gone, and the run ends")),
        Ending::Failed(words) if words.is_empty() => None,
        Ending::Failed(words) => Some(format!("rank {rank} on {host} failed: {words}")),
    };
    if let Some(words) = words.filter(|_| interrupt::takes_last_word()) {
        complain(format!("error: {words}"));
        let saved = checkpoint::list(&out.join(CHECKPOINTS)).unwrap_or_default();
        complain(match saved.last() {
            Some(path) => {
                format!("hint: the newest checkpoint is `{}`; go on with --resume", path.display())
            }
            None => "hint: there is no checkpoint yet, so the run begins anew".to_owned(),
        });
    }
    let code = if is_plain_stop { interrupt::EXIT_CODE } else { 1 };
    std::process::exit(code.into());
}

/// Whether the launcher lets this rank run on some of the machine's cores only.
fn is_bound() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    allowed.is_some_and(|allowed| n_listed(allowed) < n_listed(&online))
}

/// How many numbers there are in a list such as `0-3,8`.
fn n_listed(list: &str) -> usize {
    let numbers = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        last.checked_sub(first).map(|n| n + 1)
    };
    list.trim().split(',').filter_map(numbers).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_counted() {
        let found = ["0", "0-3", "0-3,8", "\t0,2,4-5\n", "", "x"].map(n_listed);
        assert_eq!(found, [1, 4, 5, 4, 0, 0]);
    }
}
