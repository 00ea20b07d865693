//! Which pixels a gathered convolution reads for each pixel that it writes.

use crate::{Padding, Pixels};

/// Which input pixels an output pixel sees.
#[derive(Clone, Copy)]
pub enum Window {
    /// Its own.
    Pointwise(Pixels),
    /// The 3×3 around (2y, 2x), or with its first at (2y, 2x), as the padding says, for inputs of these
    /// pixels.
    Stride2(Pixels, Padding),
    /// The transpose of `Stride2`, for the outputs (pixels of the convolution's input) with these
    /// parities of y and x. Taps are those of the parity; see [`Window::weight_tap`].
    Stride2Transposed(Pixels, Padding, usize, usize),
}

impl Window {
    /// Output pixels.
    pub fn rows(self) -> usize {
        match self {
            Self::Pointwise(pixels) => pixels.total(),
            Self::Stride2(pixels, padding) => padding.output(pixels).total(),
            Self::Stride2Transposed(pixels, _, y, x) => {
                let (high, wide) = lattice(pixels, y, x);
                pixels.n * high * wide
            }
        }
    }

    pub fn taps(self) -> usize {
        match self {
            Self::Pointwise(_) => 1,
            Self::Stride2(..) => 9,
            // Of the places of one parity, each is hit by the middle row of weights; of those of the
            // other by the outer two.
            Self::Stride2Transposed(_, padding, y, x) => {
                n_transposed_taps(padding, y) * n_transposed_taps(padding, x)
            }
        }
    }

    /// The place of a tap in the weights `[3, 3, …]`.
    pub fn weight_tap(self, tap: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(..) => tap,
            Self::Stride2Transposed(_, padding, y, x) => {
                let (ky, kx) = transposed_tap(padding, tap, y, x);
                ky * 3 + kx
            }
        }
    }

    /// Image, and y and x of an output row: its pixel, counted in the output's own lattice.
    pub fn place(self, row: usize) -> (usize, usize, usize) {
        let (high, wide) = match self {
            Self::Pointwise(pixels) => (pixels.h, pixels.w),
            Self::Stride2(pixels, padding) => {
                let Pixels { h, w, .. } = padding.output(pixels);
                (h, w)
            }
            Self::Stride2Transposed(pixels, _, y, x) => lattice(pixels, y, x),
        };
        (row / (high * wide), row / wide % high, row % wide)
    }

    /// Where an output row is written.
    pub fn output_pixel(self, row: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(..) => row,
            Self::Stride2Transposed(pixels, _, odd_y, odd_x) => {
                let (image, y, x) = self.place(row);
                (image * pixels.h + 2 * y + odd_y) * pixels.w + 2 * x + odd_x
            }
        }
    }

    /// The line and column of the input that an output pixel sees through a tap.
    pub fn input_place(self, y: usize, x: usize, tap: usize) -> Option<(usize, usize)> {
        match self {
            Self::Pointwise(_) => Some((y, x)),
            Self::Stride2(pixels, padding) => {
                let before = padding.before();
                let place = |i: usize, tap: usize| (2 * i + tap).checked_sub(before);
                let (y, x) = (place(y, tap / 3)?, place(x, tap % 3)?);
                (y < pixels.h && x < pixels.w).then_some((y, x))
            }
            Self::Stride2Transposed(pixels, padding, odd_y, odd_x) => {
                let (ky, kx) = transposed_tap(padding, tap, odd_y, odd_x);
                // 2·(y of dy) + ky − before = y of dx, and likewise for x.
                let before = padding.before();
                let place = |i: usize, odd: usize, k: usize| {
                    (2 * i + odd + before).checked_sub(k).map(|twice| twice / 2)
                };
                let (y, x) = (place(y, odd_y, ky)?, place(x, odd_x, kx)?);
                let output = padding.output(pixels);
                (y < output.h && x < output.w).then_some((y, x))
            }
        }
    }

    /// The pixels of the input.
    pub fn input(self) -> Pixels {
        match self {
            Self::Pointwise(pixels) | Self::Stride2(pixels, _) => pixels,
            Self::Stride2Transposed(pixels, padding, ..) => padding.output(pixels),
        }
    }
}

/// Height and width of the pixels with these parities.
fn lattice(pixels: Pixels, odd_y: usize, odd_x: usize) -> (usize, usize) {
    ((pixels.h + 1 - odd_y) / 2, (pixels.w + 1 - odd_x) / 2)
}

/// Rows (or columns) of weights that hit a place of this parity.
fn n_transposed_taps(padding: Padding, odd: usize) -> usize {
    2 - (odd + padding.before()) % 2
}

/// Row and column of the weights that are tap number `tap` of the places with these parities.
fn transposed_tap(padding: Padding, tap: usize, odd_y: usize, odd_x: usize) -> (usize, usize) {
    let (n_y, n_x) = (n_transposed_taps(padding, odd_y), n_transposed_taps(padding, odd_x));
    let (i, j) = (tap / n_x, tap % n_x);
    (if n_y == 2 { 2 * i } else { 1 }, if n_x == 2 { 2 * j } else { 1 })
}
