//! Processes that do one piece of work together: the ranks of a group.
//!
//! A group is known by one operation, [`Group::exchange`]: every rank sends bytes to one rank and
//! receives bytes from another. What else is needed (everyone's values at every rank, one rank's
//! values at all) is made of it in [`collectives`], and [`agreement`] compares what ranks begin
//! with. Three groups implement it: [`Alone`], one process; [`threads`], threads of one process,
//! for tests; and, with the cargo feature `mpi`, the processes that `mpirun` started.
//! [`lifeline`] ends the others when one of those dies.
//!
//! This module knows neither what is computed nor what is sent.

pub mod agreement;
pub mod collectives;
pub mod lifeline;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod threads;

use crate::error::Result;
use std::fmt::Debug;
use std::ops::Range;

/// The processes that do a piece of work together, as one of them sees them.
pub trait Group: Debug + Sync {
    /// The number of this rank, from 0. Rank 0 speaks and writes for all.
    fn rank(&self) -> usize;

    /// How many ranks there are; at least 1.
    fn size(&self) -> usize;

    /// Sends `sent` to rank `to`, and fills `received` with what rank `from` sends here, both at
    /// once. Where there is nothing to send or to receive (an empty slice), the rank named does not
    /// matter. Sender and receiver know the length beforehand. Messages from one rank to another
    /// arrive in the order in which they were sent.
    ///
    /// # Errors
    /// When the other rank is gone.
    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()>;

    /// Whether this rank speaks and writes for all.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }
}

/// One process, which does everything by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, _: usize, _: &[u8], _: usize, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

/// The part of `n` things in a row that `rank` of `size` ranks takes: all parts together are all of
/// them, and no part is larger than another by more than one.
pub fn part(n: usize, rank: usize, size: usize) -> Range<usize> {
    let start = |rank: usize| (n as u128 * rank as u128 / size as u128) as usize;
    start(rank)..start(rank + 1)
}

/// The name of this machine, as the system has it.
pub fn host_name() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").ok());
    let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    named.unwrap_or_else(|| "an unnamed machine".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_there_is() {
        for n in 0..40 {
            for size in 1..9 {
                let parts: Vec<_> = (0..size).map(|rank| part(n, rank, size)).collect();
                assert_eq!(parts[0].start, 0);
                assert_eq!(parts[size - 1].end, n);
                assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lens = || parts.iter().map(|part| part.len());
                assert!(lens().max().unwrap() - lens().min().unwrap() <= 1, "{n} of {size}");
            }
        }
        assert_eq!(part(usize::MAX, 63, 64).end, usize::MAX);
    }
}
