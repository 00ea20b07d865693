//! Inputs that tests of the library and of the program share.
#![allow(dead_code, reason = "each file of tests uses some of it")]

pub mod checkpoints;
pub mod mutate;

/// Makes files as `torch.save` does.
pub mod torch;
