//! Where the results of a matrix product or a convolution go.

use crate::simd::Simd;
use crate::{Destination, Epilogue, Sink};

/// An output of one or two parts, `[pixels, c_first]` and `[pixels, c_second]`, with what is added
/// on the way. Tasks share it; each writes places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    first: *mut f32,
    c_first: usize,
    second: *mut f32,
    c_second: usize,
    accumulate: bool,
    epilogue: Epilogue<'a>,
}

// SAFETY: it is a set of addresses; the unsafe `write` answers for the aliasing.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    pub(crate) fn new(
        out: &'a mut Destination<'_>,
        channels: usize,
        epilogue: &Epilogue<'a>,
    ) -> Self {
        Self {
            first: out.as_mut_ptr(),
            c_first: channels,
            second: std::ptr::null_mut(),
            c_second: 0,
            accumulate: epilogue.accumulate,
            epilogue: *epilogue,
        }
    }

    pub(crate) fn channels(&self) -> usize {
        self.c_first + self.c_second
    }

    /// Whether each image has a bias of its own.
    #[inline(always)]
    pub(crate) fn has_image_bias(&self) -> bool {
        self.epilogue.image_bias.is_some()
    }

    /// What is added to all pixels of an image, for `lanes` channels from `channel` on.
    ///
    /// # Safety
    /// S is available; the channels and the image exist.
    #[inline(always)]
    pub(crate) unsafe fn bias<S: Simd>(&self, image: usize, channel: usize, lanes: usize) -> S::V {
        // SAFETY: the lengths were checked when the kernel was called.
        unsafe {
            let mut sum = S::splat(0.0);
            if let Some(bias) = self.epilogue.bias {
                sum = S::load_part(bias.as_ptr().add(channel), lanes);
            }
            if let Some(bias) = self.epilogue.image_bias {
                let bias = bias.as_ptr().add(image * self.channels() + channel);
                sum = S::add(sum, S::load_part(bias, lanes));
            }
            sum
        }
    }

    /// Where a whole vector of channels of a pixel goes, with the distance of pixels there, and the
    /// residual of the same pixel and channels; `None` where the vector lies across the parts.
    #[inline(always)]
    pub(crate) fn place(
        &self,
        pixel: usize,
        channel: usize,
        lanes: usize,
    ) -> Option<(*mut f32, usize, Option<*const f32>)> {
        let residual = self
            .epilogue
            .residual
            .map(|residual| residual.as_ptr().wrapping_add(pixel * self.channels() + channel));
        if channel + lanes <= self.c_first {
            let to = self.first.wrapping_add(pixel * self.c_first + channel);
            Some((to, self.c_first, residual))
        } else if channel >= self.c_first {
            let to = self.second.wrapping_add(pixel * self.c_second + channel - self.c_first);
            Some((to, self.c_second, residual))
        } else {
            None
        }
    }

    /// Prefetches the places that will be written, and what will be added to them.
    ///
    /// # Safety
    /// S is available.
    #[inline(always)]
    pub(crate) unsafe fn prefetch<S: Simd>(&self, pixel: usize, channel: usize) {
        if let Some((to, _, residual)) = self.place(pixel, channel, 1) {
            // SAFETY: the caller's promise.
            unsafe {
                S::prefetch_for_write(to);
                if let Some(residual) = residual {
                    S::prefetch(residual);
                }
            }
        }
    }

    /// Whether results are added to what is there.
    pub(crate) fn accumulates(&self) -> bool {
        self.accumulate
    }

    /// Writes `lanes` channels of one pixel, from `channel` on.
    ///
    /// # Safety
    /// S is available; the pixel and the channels exist, and no other task touches them.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(
        &self,
        pixel: usize,
        channel: usize,
        lanes: usize,
        value: S::V,
    ) {
        // SAFETY: the lengths were checked when the kernel was called.
        unsafe {
            let mut value = value;
            if let Some(residual) = self.epilogue.residual {
                let residual = residual.as_ptr().add(pixel * self.channels() + channel);
                let residual = if lanes == S::LANES {
                    S::load(residual)
                } else {
                    S::load_part(residual, lanes)
                };
                value = S::add(value, residual);
            }
            let to = if channel + lanes <= self.c_first {
                self.first.add(pixel * self.c_first + channel)
            } else if channel >= self.c_first {
                self.second.add(pixel * self.c_second + channel - self.c_first)
            } else {
                return self.write_across::<S>(pixel, channel, lanes, value);
            };
            if lanes == S::LANES {
                S::store(to, if self.accumulate { S::add(S::load(to), value) } else { value });
            } else {
                let before = if self.accumulate { S::load_part(to, lanes) } else { S::splat(0.0) };
                S::store_part(to, lanes, S::add(before, value));
            }
        }
    }

    /// As `write`, for a vector that lies across the border between the parts.
    #[inline(always)]
    unsafe fn write_across<S: Simd>(
        &self,
        pixel: usize,
        channel: usize,
        lanes: usize,
        value: S::V,
    ) {
        let mut values = [0.0f32; 16];
        // SAFETY: as in `write`.
        unsafe {
            S::store(values.as_mut_ptr(), value);
            for (i, &value) in values.iter().enumerate().take(lanes) {
                let channel = channel + i;
                let to = if channel < self.c_first {
                    self.first.add(pixel * self.c_first + channel)
                } else {
                    self.second.add(pixel * self.c_second + channel - self.c_first)
                };
                *to = if self.accumulate { *to + value } else { value };
            }
        }
    }
}

impl<'a> From<&'a mut Sink<'_>> for Output<'a> {
    fn from(sink: &'a mut Sink<'_>) -> Self {
        Self {
            first: sink.first.as_mut_ptr(),
            c_first: sink.c_first,
            second: sink.second.as_mut_ptr(),
            c_second: sink.c_second,
            accumulate: sink.accumulate,
            epilogue: Epilogue::default(),
        }
    }
}
