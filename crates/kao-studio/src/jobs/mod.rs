//! Jobs: one computes at a time with all cores, the others wait for their turn.
//!
//! A job is some [`Work`] with a number. It knows nothing of HTTP; whoever watches sees its state
//! change, and may cancel it. Results are kept within bounds, the oldest are forgotten first.

mod job;
mod models;
mod output;
mod preview;
mod queue;
mod work;

pub use job::{Job, State};
pub use models::Models;
pub use output::{Output, Set, SheetPlaces};
pub use preview::Preview;
pub use queue::Queue;
pub use work::{Work, Worker};
