//! Images to pictures: grids, strips, labelled columns and animations, and the files they are kept
//! in.
//!
//! This module knows no model and no sampler: it gets [`Images`](crate::Images) and words, and
//! draws them. Every picture is made of whole pixels; nothing is smoothed.

mod animation;
mod base64;
mod caption;
mod chart;
mod columns;
mod font;
mod grid;
mod picture;
mod png;
mod sheet;
mod strip;

pub use self::animation::{Animation, AnimationFormat, read_animation_text};
pub use self::base64::base64;
pub use self::caption::captioned;
pub use self::chart::{Chart, Curve, Scale, Style, charts};
pub use self::columns::labelled_columns;
pub use self::grid::{check_grid, grid};
pub use self::picture::{Layout, Picture};
pub use self::png::{check_png_path, png_bytes, read_png, read_png_text, write_png};
pub use self::sheet::Sheet;
pub use self::strip::{check_strip, strip};
