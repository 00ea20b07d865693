//! Nearest ×2 upsampling on its own. Before a convolution it need not happen at all: see
//! [`crate::Source::upsampled`] and [`crate::Sink::upsampled`].

use crate::operands::length;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::{Destination, Pixels, Sink};

/// Repeats every pixel twice along both sides.
///
/// # Shapes
/// x `[N, H, W, channels]` with `pixels` being N, H, W; y `[N, 2H, 2W, channels]`.
///
/// # Panics
/// If a length does not fit.
pub fn upsample_nearest<'a>(
    pixels: Pixels,
    channels: usize,
    x: &[f32],
    y: impl Into<Destination<'a>>,
) {
    let y = y.into();
    assert_eq!(x.len(), length([pixels.total(), channels]), "length of x");
    assert_eq!(y.len(), length([4, pixels.total(), channels]), "length of y");
    repeat_pixels(pixels, channels, x, y);
}

fn repeat_pixels(pixels: Pixels, channels: usize, x: &[f32], mut y: Destination<'_>) {
    let line = pixels.w * channels;
    let to = Shared::new(y.as_mut_ptr());
    for_each_task(pixels.n * pixels.h, |row| {
        let x = &x[row * line..][..line];
        // SAFETY: y has two lines of twice the length for each line of x; each task has its own.
        unsafe {
            let above = to.get().add(row * 4 * line);
            for (i, pixel) in x.chunks_exact(channels.max(1)).enumerate() {
                let to = above.add(2 * i * channels);
                to.copy_from_nonoverlapping(pixel.as_ptr(), channels);
                to.add(channels).copy_from_nonoverlapping(pixel.as_ptr(), channels);
            }
            above.add(2 * line).copy_from_nonoverlapping(above, 2 * line);
        }
    });
    // SAFETY: the tasks have written all lines.
    unsafe { y.mark_written() };
}

/// The gradient of [`upsample_nearest`]: sums of four pixels.
///
/// # Shapes
/// dy `[N, 2H, 2W, channels]`, dx `[N, H, W, channels]` with `pixels` being N, H, W.
///
/// # Panics
/// If a length does not fit.
pub fn upsample_nearest_backward<'a>(
    pixels: Pixels,
    channels: usize,
    dy: &[f32],
    dx: impl Into<Destination<'a>>,
) {
    let dx = dx.into();
    assert_eq!(dx.len(), length([pixels.total(), channels]), "length of dx");
    assert_eq!(dy.len(), length([4, pixels.total(), channels]), "length of dy");
    let upsampled = Pixels::new(pixels.n, 2 * pixels.h, 2 * pixels.w);
    add_fours(upsampled, dy, Sink::new(dx, channels));
}

/// Runs `gradient` into a buffer of full size, then sums its pixels by four into the sink: for
/// convolutions that do not do so themselves.
pub(crate) fn sum_by_four(pixels: Pixels, sink: Sink<'_>, gradient: impl FnOnce(Sink<'_>)) {
    let channels = sink.channels();
    let len = pixels.total() * channels;
    let mut full = Scratch::new(len);
    // SAFETY: the buffer is at least as long.
    let full = unsafe { std::slice::from_raw_parts_mut(full.as_mut_ptr(), len) };
    gradient(Sink::new(&mut *full, channels));
    add_fours(pixels, full, sink);
}

/// Sums the pixels of `full` `[N, H, W, C]` by four.
fn add_fours(pixels: Pixels, full: &[f32], mut sink: Sink<'_>) {
    let (c, c_first, c_second) = (sink.channels(), sink.c_first, sink.c_second);
    let (width, accumulate) = (pixels.w / 2, sink.accumulate);
    let (first, second) =
        (Shared::new(sink.first.as_mut_ptr()), Shared::new(sink.second.as_mut_ptr()));
    for_each_task(pixels.n * pixels.h / 2, |row| {
        let lines = &full[row * 2 * pixels.w * c..][..2 * pixels.w * c];
        let (above, below) = lines.split_at(pixels.w * c);
        for x in 0..width {
            for (part, first_channel, channels) in
                [(first, 0, c_first), (second, c_first, c_second)]
            {
                let from = 2 * x * c + first_channel;
                for i in 0..channels {
                    let sum = (above[from + i] + above[from + c + i])
                        + (below[from + i] + below[from + c + i]);
                    // SAFETY: the parts hold half the lines at half the length, and values where
                    // they are added to; each task has lines of its own.
                    unsafe {
                        let to = part.get().add((row * width + x) * channels + i);
                        *to = if accumulate { *to + sum } else { sum };
                    }
                }
            }
        }
    });
    // SAFETY: the tasks have written all lines.
    unsafe { sink.mark_written() };
}
