//! Gathering what a window sees of a source.

use super::window::Window;
use crate::Source;
use crate::activation::{Pointwise, for_activation};
use crate::gemm::BLOCK;
use crate::gemm::pack::{PixelRun, Rows, copy_source};
use crate::simd::Simd;

/// Gathers what `rows` (first, number) see through a tap, in blocked layout of `group_rows` rows.
///
/// # Safety
/// S is available; the source fits the window's input; `to` has room for the rows.
#[inline(always)]
pub unsafe fn gather<S: Simd>(
    window: Window,
    source: &Source<'_>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
) {
    let activation = source.prologue.map(|prologue| prologue.activation).unwrap_or_default();
    // SAFETY: the caller's promise.
    for_activation!(activation, P => unsafe {
        gather_with::<S, P>(window, source, rows, tap, to, group_rows);
    });
}

#[inline(always)]
unsafe fn gather_with<S: Simd, P: Pointwise>(
    window: Window,
    source: &Source<'_>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
) {
    let channels = source.channels();
    let block_stride = group_rows * BLOCK;
    let input = window.input();
    let side_by_side = matches!(window, Window::Pointwise(_)) && !source.upsampled;
    let mut row = 0;
    while row < rows.1 {
        let (image, y, x) = window.place(rows.0 + row);
        // Rows that follow each other in the input too, to the end of the image.
        let run = if side_by_side {
            (rows.1 - row).min(input.per_image() - (y * input.w + x))
        } else {
            1
        };
        // SAFETY: the rows lie within the window, their input pixels within the source, and
        // `to` has room for all rows.
        unsafe {
            let to = Rows { to: to.add(row * BLOCK), row_stride: BLOCK, block_stride };
            if let Some((y, x)) = window.input_place(y, x, tap) {
                let pixel = if source.upsampled {
                    (image * (input.h / 2) + y / 2) * (input.w / 2) + x / 2
                } else {
                    (image * input.h + y) * input.w + x
                };
                let pixels = PixelRun { image, first: pixel, step: 1, number: run };
                copy_source::<S, P>(source, (0, channels), pixels, to);
            } else {
                for block in 0..channels.div_ceil(BLOCK) {
                    to.to.add(block * block_stride).write_bytes(0, BLOCK);
                }
            }
        }
        row += run;
    }
}
