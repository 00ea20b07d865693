//! Queries, keys and values in the layouts of the matrix product.

use super::AttentionShape;
use crate::Source;
use crate::activation::Identity;
use crate::gemm::pack::{PixelRun, Rows, Unpacked, copy_source, pack_panel, pack_panel_transposed};
use crate::gemm::{BLOCK, PANEL};
use crate::simd::{Kernel, Simd};

/// One image's `[pixels, channels]` in panels of channels.
pub struct Pack<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub image: usize,
    pub to: *mut f32,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, .. } = self.shape;
        for panel in 0..channels.div_ceil(PANEL) {
            // SAFETY: the image exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.image * pixels * channels);
                let to = self.to.add(panel * pixels * PANEL);
                let matrix = Unpacked {
                    at: from,
                    stride: channels,
                    depth: pixels,
                    columns: channels,
                    first: panel * PANEL,
                };
                pack_panel::<S>(to, matrix);
            }
        }
    }
}

/// The transpose of one image's `[pixels, channels]`, in panels of pixels.
pub struct PackTransposed<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub image: usize,
    pub to: *mut f32,
}

impl Kernel for PackTransposed<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, .. } = self.shape;
        for panel in 0..pixels.div_ceil(PANEL) {
            // SAFETY: the image exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.image * pixels * channels);
                let to = self.to.add(panel * channels * PANEL);
                let matrix = Unpacked {
                    at: from,
                    stride: channels,
                    depth: channels,
                    columns: pixels,
                    first: panel * PANEL,
                };
                pack_panel_transposed::<S>(to, matrix);
            }
        }
    }
}

/// Pixels (first, number) of one image in blocked layout.
pub struct Block<'a> {
    pub shape: AttentionShape,
    pub from: &'a [f32],
    pub image: usize,
    pub pixels: (usize, usize),
    pub to: *mut f32,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let source = Source::new(self.from, self.shape.channels);
        let (first, number) = self.pixels;
        let first = self.image * self.shape.pixels + first;
        let to = Rows { to: self.to, row_stride: BLOCK, block_stride: number * BLOCK };
        let channels = (0, self.shape.channels);
        // SAFETY: the pixels exist, and there is room for them.
        unsafe {
            let pixels = PixelRun { image: self.image, first, step: 1, number };
            copy_source::<S, Identity>(&source, channels, pixels, to);
        }
    }
}
