//! Threads of one process as a group: what is held of ranks holds of them, and tests need neither
//! MPI nor processes.

use super::Group;
use crate::error::{ErrorKind, Result};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// A thread that is a rank.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    /// To each rank.
    to: Vec<Sender<Vec<u8>>>,
    /// From each rank.
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

/// The ranks of a group of `size`, each to be given to a thread. A rank that is dropped is gone, and
/// whoever waits for it gets an error.
pub fn ranks(size: usize) -> Vec<ThreadRank> {
    let mut ranks: Vec<ThreadRank> =
        (0..size).map(|rank| ThreadRank { rank, to: Vec::new(), from: Vec::new() }).collect();
    for receiver in 0..size {
        for sender in 0..size {
            let (to, from) = channel();
            ranks[sender].to.push(to);
            ranks[receiver].from.push(Mutex::new(from));
        }
    }
    ranks
}

/// Calls `work` as each of `size` ranks, each on a thread of its own, and gives what each came to.
///
/// # Panics
/// When a thread panics.
pub fn together<R: Send>(size: usize, work: impl Fn(&dyn Group) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = ranks(size)
            .into_iter()
            .map(|rank| {
                scope.spawn(move || {
                    let done = work(&rank);
                    drop(rank);
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect()
    })
}

impl Group for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()> {
        let gone = |rank| ErrorKind::Rank { rank, problem: "is gone".to_owned() };
        if !sent.is_empty() {
            self.to[to].send(sent.to_vec()).map_err(|_| gone(to))?;
        }
        if !received.is_empty() {
            let channel = self.from[from].lock().unwrap_or_else(PoisonError::into_inner);
            let message = channel.recv().map_err(|_| gone(from))?;
            assert_eq!(message.len(), received.len(), "from rank {from} to {}", self.rank);
            received.copy_from_slice(&message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_at_the_rank_they_are_sent_to() {
        let seen = together(3, |group| {
            let (rank, size) = (group.rank() as u8, group.size());
            let mut seen = Vec::new();
            for round in 0..4u8 {
                for distance in 1..size {
                    let (to, from) =
                        ((group.rank() + distance) % size, (group.rank() + size - distance) % size);
                    let mut received = [0; 3];
                    group.exchange(to, &[rank, to as u8, round], from, &mut received).unwrap();
                    assert_eq!(received, [from as u8, rank, round]);
                    seen.push(received);
                }
            }
            seen.len()
        });
        assert_eq!(seen, [8, 8, 8]);
    }

    #[test]
    fn whoever_waits_for_a_rank_that_is_gone_is_told() {
        let outcomes = together(2, |group| {
            let mut received = [0];
            match group.rank() {
                0 => group.exchange(1, &[], 1, &mut received).unwrap_err().to_string(),
                _ => String::new(),
            }
        });
        assert_eq!(outcomes[0], "rank 1 is gone");
    }
}
