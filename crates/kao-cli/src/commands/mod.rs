//! One command per file: its arguments, and how they become calls to the library.

pub mod bench;
pub mod compare;
pub mod completions;
pub mod convert;
pub mod draw;
pub mod edit;
pub mod encode;
pub mod eval;
pub mod fetch;
pub mod info;
pub mod interpolate;
pub mod man;
#[cfg(not(feature = "studio"))]
pub mod no_studio;
pub mod prepare;
pub mod recover;
pub mod sample;
#[cfg(feature = "studio")]
pub mod studio;
pub mod sweep;
pub mod train;
