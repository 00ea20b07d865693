//! Files from strangers: damage of every kind, and small files that ask for much. Each must end in
//! something read or in a message, within bounds of time and memory.
//!
//! `KAO_MUTATIONS` sets how many damaged files of each kind are tried, `KAO_MUTATION_SEED` which, and
//! `KAO_MUTATION_FIRST` where to begin. A file that is survived badly is kept in the folder for
//! temporary files, and its name is in the message.

mod archives;
mod bounds;
mod configurations;
mod fuzz;
mod pictures;
mod runs;
#[path = "../support/mod.rs"]
mod support;
mod weights;
