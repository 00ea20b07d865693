//! Queries, keys and values in the layouts of the matrix product.

use super::AttentionShape;
use crate::Source;
use crate::activation::Identity;
use crate::gemm::pack::{PixelRun, Rows, Unpacked, copy_source, pack_panel, pack_panel_transposed};
use crate::gemm::{BLOCK, PANEL};
use crate::simd::{Kernel, Simd};

/// One unit's `[pixels, width]` in panels of channels.
pub struct Pack<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub unit: usize,
    pub to: *mut f32,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (AttentionShape { pixels, channels, .. }, width) = (self.shape, self.shape.width());
        for panel in 0..width.div_ceil(PANEL) {
            // SAFETY: the unit exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.shape.first_value(self.unit));
                let to = self.to.add(panel * pixels * PANEL);
                let matrix = Unpacked {
                    at: from,
                    stride: channels,
                    depth: pixels,
                    columns: width,
                    first: panel * PANEL,
                };
                pack_panel::<S>(to, matrix);
            }
        }
    }
}

/// The transpose of one unit's `[pixels, width]`, in panels of pixels.
pub struct PackTransposed<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub unit: usize,
    pub to: *mut f32,
}

impl Kernel for PackTransposed<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (AttentionShape { pixels, channels, .. }, width) = (self.shape, self.shape.width());
        for panel in 0..pixels.div_ceil(PANEL) {
            // SAFETY: the unit exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.shape.first_value(self.unit));
                let to = self.to.add(panel * width * PANEL);
                let matrix = Unpacked {
                    at: from,
                    stride: channels,
                    depth: width,
                    columns: pixels,
                    first: panel * PANEL,
                };
                pack_panel_transposed::<S>(to, matrix);
            }
        }
    }
}

/// Pixels (first, number) of one unit in blocked layout.
pub struct Block<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub unit: usize,
    pub pixels: (usize, usize),
    pub to: *mut f32,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let source = Source::new(self.from, self.shape.channels);
        let (first, number) = self.pixels;
        let (pixel, channel) = self.shape.origin(self.unit);
        let first = pixel + first;
        let to = Rows { to: self.to, row_stride: BLOCK, block_stride: number * BLOCK };
        let channels = (channel, self.shape.width());
        // SAFETY: the pixels exist, and there is room for them.
        unsafe {
            let pixels = PixelRun { image: self.unit / self.shape.heads, first, step: 1, number };
            copy_source::<S, Identity>(&source, channels, pixels, to);
        }
    }
}
