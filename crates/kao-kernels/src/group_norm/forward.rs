//! The normalized values, through activation and dropout.

use super::lanes::load_of;
use super::runs::{for_each_run, parts};
use super::{Dropout, FoldedNorm, GroupNorm};
use crate::activation::{Pointwise, for_activation};
use crate::parallel::Shared;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Destination, Pixels, Source};

/// Writes all of `y`. Lengths have been checked.
pub fn apply(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    norm: &GroupNorm<'_>,
    mut y: Destination<'_>,
) {
    let FoldedNorm { scale, shift, .. } = norm.folded();
    let to = Shared::new(y.as_mut_ptr());
    for_each_run(pixels, |image, first, n_pixels| {
        let kernel = Apply {
            source,
            norm,
            scale: &scale[image * source.channels()..],
            shift: &shift[image * source.channels()..],
            pixels: (image * pixels.per_image() + first, n_pixels),
            y: to.get(),
        };
        // SAFETY: the level is available, the lengths were checked, each task has its own pixels.
        unsafe { dispatch(level, kernel) };
    });
    // SAFETY: the tasks have written all pixels.
    unsafe { y.mark_written() };
}

struct Apply<'a> {
    source: &'a Source<'a>,
    norm: &'a GroupNorm<'a>,
    /// Of the image.
    scale: &'a [f32],
    shift: &'a [f32],
    /// First in the batch, and number.
    pixels: (usize, usize),
    /// The whole output.
    y: *mut f32,
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        for_activation!(self.norm.activation, P => unsafe {
            match self.norm.dropout {
                Some(dropout) => self.run_with::<S, P, true>(dropout),
                None => self.run_with::<S, P, false>(Dropout { rate: 0.0, seed: 0 }),
            }
        });
    }
}

impl Apply<'_> {
    #[inline(always)]
    unsafe fn run_with<S: Simd, P: Pointwise, const DROPOUT: bool>(&self, dropout: Dropout) {
        let c = self.source.channels();
        for pixel in self.pixels.0..self.pixels.0 + self.pixels.1 {
            for (part, channels, first) in parts(self.source) {
                let mut channel = 0;
                while channel < channels {
                    let width = channels - channel;
                    let place = pixel * c + first + channel;
                    // SAFETY: pixel and channels exist, in the output too.
                    unsafe {
                        let x = part.as_ptr().add(pixel * channels + channel);
                        let scale = self.scale.as_ptr().add(first + channel);
                        let shift = self.shift.as_ptr().add(first + channel);
                        let x = load_of::<S>(x, 0, width);
                        let scale = load_of::<S>(scale, 0, width);
                        let shift = load_of::<S>(shift, 0, width);
                        let mut y = P::apply::<S>(S::fma(x, scale, shift));
                        if DROPOUT {
                            y = S::mul(y, dropout.factors::<S>(place));
                        }
                        if width >= S::LANES {
                            S::store(self.y.add(place), y);
                        } else {
                            S::store_part(self.y.add(place), width, y);
                        }
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}
