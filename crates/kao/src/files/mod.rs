//! Reading and writing files that somebody named.
//!
//! `regular` opens what is a regular file, and reads no more of it than the caller allows. `atomic`
//! writes a file whole or not at all. `paths` compares paths. This module knows no format.

mod atomic;
mod paths;
mod regular;

pub use atomic::{atomic_write, prepare_path, remove_leftovers};
pub use paths::{check_folder, resolved};
pub use regular::{
    check_regular_or_none, is_missing, open_regular, read_exact_at, read_regular,
    read_to_string_regular,
};
