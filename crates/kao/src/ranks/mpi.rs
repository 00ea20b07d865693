//! The processes that `mpirun`, `srun` or another launcher of MPI started, as a group.

use super::Group;
use crate::error::{Error, Result};
use ::mpi::Threading;
use ::mpi::environment::Universe;
use ::mpi::point_to_point::Status;
use ::mpi::request::{Request, Scope, scope};
use ::mpi::traits::{Communicator, Destination, Source};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longer messages go in pieces, since MPI counts in 32 bits, and so that memory of the transport
/// stays small.
const PIECE: usize = 32 << 20;

/// How long a rank waits for another without leaving the processor to others.
const SPINS_FOR: Duration = Duration::from_micros(200);
/// How long it then only lets others go first, before it begins to sleep.
const YIELDS_FOR: Duration = Duration::from_millis(20);
/// How long it sleeps at a time.
const NAP: Duration = Duration::from_micros(200);

/// All processes of one start.
pub struct MpiGroup {
    universe: Universe,
    rank: usize,
    size: usize,
    /// Calls come from whichever thread trains, one at a time.
    turn: Mutex<()>,
}

impl MpiGroup {
    /// Joins the processes that were started together.
    ///
    /// # Errors
    /// When MPI cannot be used from several threads in turn, or was begun before.
    pub fn join() -> Result<Self> {
        let refused = |problem| Error::invalid("ranks", problem);
        let (universe, threading) = ::mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| refused("MPI was begun before"))?;
        if threading < Threading::Serialized {
            return Err(refused("this MPI can only be used from one thread"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(MpiGroup { universe, rank, size, turn: Mutex::new(()) })
    }
}

impl fmt::Debug for MpiGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Group for MpiGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let world = self.universe.world();
        let (to, from) = (world.process_at_rank(to as i32), world.process_at_rank(from as i32));
        let (mut sent, mut received) = (sent.chunks(PIECE), received.chunks_mut(PIECE));
        loop {
            let (outgoing, incoming) = (sent.next(), received.next());
            if outgoing.is_none() && incoming.is_none() {
                return Ok(());
            }
            scope(|scope| {
                let receiving = incoming.map(|bytes| from.immediate_receive_into(scope, bytes));
                let sending = outgoing.map(|bytes| to.immediate_send(scope, bytes));
                let started = Instant::now();
                let mut pending = (receiving, sending);
                while pending.0.is_some() || pending.1.is_some() {
                    pending = (pending.0.and_then(tested), pending.1.and_then(tested));
                    wait_a_little(started);
                }
            });
        }
    }
}

/// The request, as long as it is not done.
fn tested<'a, D: ?Sized, S: Scope<'a>>(request: Request<'a, D, S>) -> Option<Request<'a, D, S>> {
    let tested: std::result::Result<Status, Request<'a, D, S>> = request.test();
    tested.err()
}

/// Between two looks at what is awaited. MPI itself would look all the time, with a whole core.
fn wait_a_little(since: Instant) {
    match since.elapsed() {
        waited if waited < SPINS_FOR => std::hint::spin_loop(),
        waited if waited < YIELDS_FOR => std::thread::yield_now(),
        _ => std::thread::sleep(NAP),
    }
}
