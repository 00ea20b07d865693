//! The program as a user meets it: the real binary, its exit codes, both streams, its files.

mod checkpoints;
mod comparing;
mod data_folders;
mod diffusers;
mod editing;
mod encoding;
mod evaluating;
mod examples;
mod failures;
mod faults;
mod first_hour;
mod fixture;
mod honoured;
mod hostile;
mod looking;
mod odd_values;
mod pictures;
mod provenance;
mod sampling;
mod shards;
mod signals;
mod single_images;
mod soundness;
mod streams;
mod studio;
mod training;

#[path = "../../../kao/tests/support/mod.rs"]
mod support;
