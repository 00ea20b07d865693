//! The program as a user meets it: the real binary, its exit codes, both streams, its files.

mod evaluating;
mod examples;
mod failures;
mod faults;
mod first_hour;
mod fixture;
mod looking;
mod pictures;
mod sampling;
mod streams;
mod training;
