//! Reading a Python pickle as data.
//!
//! A pickle is a program for a small stack machine, and Python's own reader will call whatever
//! function it names. This one calls nothing: a call becomes an [`Object`] that remembers what
//! would have been called and with what, and only containers of the standard library
//! (`OrderedDict` and the like) are taken for what they are.
//!
//! Values live in one arena and refer to each other by number. So a value that contains itself,
//! or one list shared a billion times, costs no more than the bytes that describe it, and nothing
//! here recurses. Looking through it can cost more: a dictionary that a hundred thousand others
//! share is met a hundred thousand times. So whoever asks for the items of a value spends what is
//! handed out, all from one budget (`MAX_PICKLE_VISITS`); once it is used up, values seem to be
//! empty, and [`Pickle::is_exhausted`] tells that they are not.

mod machine;
mod memory;
mod program;
mod values;

pub use machine::run as parse;
pub use values::{Id, Node, Object, Pickle};
