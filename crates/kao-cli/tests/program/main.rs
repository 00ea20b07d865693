//! The program as a user meets it: the real binary, its exit codes, both streams, its files.

mod data_folders;
mod evaluating;
mod failures;
mod faults;
mod fixture;
mod looking;
mod odd_values;
mod pictures;
mod provenance;
mod sampling;
mod signals;
mod soundness;
mod streams;
mod training;
