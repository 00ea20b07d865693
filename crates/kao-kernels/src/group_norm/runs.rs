//! Images cut into runs of pixels, which tasks take, and the parts of an input.

use crate::parallel::for_each_task;
use crate::{Pixels, Source};

/// Pixels that a task takes.
pub const PIXELS_PER_TASK: usize = 256;

/// Calls `task(image, first pixel in the image, number of pixels)` for runs of pixels.
pub fn for_each_run(pixels: Pixels, task: impl Fn(usize, usize, usize) + Sync) {
    let runs = runs(pixels);
    for_each_task(pixels.n * runs, |i| {
        let (image, first) = (i / runs, i % runs * PIXELS_PER_TASK);
        task(image, first, PIXELS_PER_TASK.min(pixels.per_image() - first));
    });
}

/// Runs of pixels in an image.
pub fn runs(pixels: Pixels) -> usize {
    pixels.per_image().div_ceil(PIXELS_PER_TASK)
}

/// The parts of a source: values, channels, first channel.
#[inline(always)]
pub fn parts<'a>(source: &Source<'a>) -> [(&'a [f32], usize, usize); 2] {
    [(source.first, source.c_first, 0), (source.second, source.c_second, source.c_first)]
}
