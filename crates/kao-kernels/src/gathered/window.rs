//! Which pixels a gathered convolution reads for each pixel that it writes.

use crate::Pixels;

/// Which input pixels an output pixel sees.
#[derive(Clone, Copy)]
pub enum Window {
    /// Its own.
    Pointwise(Pixels),
    /// The 3×3 around (2y, 2x), for inputs of these pixels.
    Stride2(Pixels),
    /// The transpose of `Stride2`, for the outputs (pixels of the convolution's input) with these
    /// parities of y and x. Taps are those of the parity; see [`Window::weight_tap`].
    Stride2Transposed(Pixels, usize, usize),
}

impl Window {
    /// Output pixels.
    pub fn rows(self) -> usize {
        match self {
            Self::Pointwise(pixels) => pixels.total(),
            Self::Stride2(pixels) => pixels.halved().total(),
            Self::Stride2Transposed(pixels, y, x) => {
                let (high, wide) = lattice(pixels, y, x);
                pixels.n * high * wide
            }
        }
    }

    pub fn taps(self) -> usize {
        match self {
            Self::Pointwise(_) => 1,
            Self::Stride2(_) => 9,
            // Even places are hit by the middle row of weights, odd ones by the outer two.
            Self::Stride2Transposed(_, y, x) => (1 + y) * (1 + x),
        }
    }

    /// The place of a tap in the weights `[3, 3, …]`.
    pub fn weight_tap(self, tap: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(_) => tap,
            Self::Stride2Transposed(_, y, x) => {
                let (ky, kx) = transposed_tap(tap, y, x);
                ky * 3 + kx
            }
        }
    }

    /// Image, and y and x of an output row: its pixel, counted in the output's own lattice.
    pub fn place(self, row: usize) -> (usize, usize, usize) {
        let (high, wide) = match self {
            Self::Pointwise(pixels) => (pixels.h, pixels.w),
            Self::Stride2(pixels) => (pixels.h.div_ceil(2), pixels.w.div_ceil(2)),
            Self::Stride2Transposed(pixels, y, x) => lattice(pixels, y, x),
        };
        (row / (high * wide), row / wide % high, row % wide)
    }

    /// Where an output row is written.
    pub fn output_pixel(self, row: usize) -> usize {
        match self {
            Self::Pointwise(_) | Self::Stride2(_) => row,
            Self::Stride2Transposed(pixels, odd_y, odd_x) => {
                let (image, y, x) = self.place(row);
                (image * pixels.h + 2 * y + odd_y) * pixels.w + 2 * x + odd_x
            }
        }
    }

    /// The line and column of the input that an output pixel sees through a tap.
    pub fn input_place(self, y: usize, x: usize, tap: usize) -> Option<(usize, usize)> {
        match self {
            Self::Pointwise(_) => Some((y, x)),
            Self::Stride2(pixels) => {
                let (y, x) = ((2 * y + tap / 3).checked_sub(1)?, (2 * x + tap % 3).checked_sub(1)?);
                (y < pixels.h && x < pixels.w).then_some((y, x))
            }
            Self::Stride2Transposed(pixels, odd_y, odd_x) => {
                let (ky, kx) = transposed_tap(tap, odd_y, odd_x);
                // 2·(y of dy) + ky − 1 = y of dx, and likewise for x.
                let (y, x) = ((2 * y + odd_y + 1 - ky) / 2, (2 * x + odd_x + 1 - kx) / 2);
                let halved = pixels.halved();
                (y < halved.h && x < halved.w).then_some((y, x))
            }
        }
    }

    /// The pixels of the input.
    pub fn input(self) -> Pixels {
        match self {
            Self::Pointwise(pixels) | Self::Stride2(pixels) => pixels,
            Self::Stride2Transposed(pixels, ..) => pixels.halved(),
        }
    }
}

/// Height and width of the pixels with these parities.
fn lattice(pixels: Pixels, odd_y: usize, odd_x: usize) -> (usize, usize) {
    ((pixels.h + 1 - odd_y) / 2, (pixels.w + 1 - odd_x) / 2)
}

fn transposed_tap(tap: usize, odd_y: usize, odd_x: usize) -> (usize, usize) {
    let (i, j) = (tap / (1 + odd_x), tap % (1 + odd_x));
    (if odd_y == 1 { 2 * i } else { 1 }, if odd_x == 1 { 2 * j } else { 1 })
}
