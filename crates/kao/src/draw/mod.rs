//! Draws anime-style portraits: a data set for anyone, free of other people's pictures.
//!
//! Picture k of seed s is always the same, whatever else is drawn, at any size. A picture is
//! planned first (`plan`: proportions, expression, cuts of hair, colours), then painted as vector
//! shapes layer over layer (`portrait`), larger than wanted, and reduced. The painters know
//! neither files nor tensors.

mod accessories;
mod background;
mod brows;
mod canvas;
mod clothes;
mod colour;
mod expression;
mod eyes;
mod folder;
mod geometry;
mod hair;
mod hair_back;
mod hair_front;
mod hair_side;
mod head;
mod mouth;
mod palette;
mod plan;
mod portrait;
mod random;
mod tags;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

pub use folder::{FolderConfig, Written, file_name, write_folder};
pub use tags::{DrawnGroup, tag_groups, tags};

use crate::error::{Error, Result};

/// The sides of pictures that can be drawn, in pixels.
pub const SIZES: RangeInclusive<u32> = 16..=512;

/// Side of the canvas that small pictures are drawn on before they are reduced.
const CANVAS_SIDE: u32 = 256;
/// Bounds of the reduction from canvas to picture.
const REDUCTIONS: RangeInclusive<u32> = 2..=8;

/// A drawn portrait, as square as all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    side: u32,
    bytes: Vec<u8>,
}

impl Face {
    /// Width and height in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// The pixels, `[side, side, 3]`: red, green and blue.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Draws portrait `index` of `seed`, `size`×`size` pixels.
///
/// The same arguments always give the same bytes; another size gives the same portrait.
///
/// # Errors
/// When `size` is not within [`SIZES`].
pub fn face(seed: u64, index: u64, size: u32) -> Result<Face> {
    check_size(size)?;
    let factor = CANVAS_SIDE.div_ceil(size).clamp(*REDUCTIONS.start(), *REDUCTIONS.end());
    portrait::draw(seed, index, size, factor)
        .ok_or_else(|| Error::invalid("size", format!("no canvas of {size}×{factor} pixels")))
}

pub(crate) fn check_size(size: u32) -> Result<()> {
    if SIZES.contains(&size) {
        return Ok(());
    }
    let (low, high) = (SIZES.start(), SIZES.end());
    Err(Error::out_of_range("size", size, format!("between {low} and {high} pixels")))
}
