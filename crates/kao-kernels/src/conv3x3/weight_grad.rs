//! The weight gradient by way of the Winograd domain: inputs and output gradients of all tiles are
//! transformed, multiplied and summed plane by plane, and the sums transformed back.
//!
//! Two schedules, chosen by shape alone, since they sum in different orders:
//! - *local*, for many tiles and not too many channels: tiles are cut into stretches, channels into
//!   parts. A task sums over one stretch for one part on either side, everything in its own cache;
//!   the stretches are added in order.
//! - *shared*: tiles are taken in groups. All tasks transform a group, then each sums some planes.
//!
//! Within a stretch or a group tiles come in their order in the batch, so every sum is a chain of
//! additions that is the same whatever the number of threads.

use super::tiles::{Group, Tiling, TransformInput, TransformOutputGradient, strip_len};
use super::transform;
use super::weights::PLANES;
use crate::gemm::{BLOCK, multiply_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Destination, Pixels, Source};

/// The most transformed inputs and gradients of a group of the shared schedule, in f32.
const GROUP_LEN: usize = 3_000_000;
/// The most channels on either side of a task of the local schedule, whose sums then fit the cache.
const PART_CHANNELS: usize = 64;
/// The most pairs of such parts for the local schedule, which transforms every part once for each
/// part of the other side.
const FEW_PARTS: usize = 4;
/// Tiles of a stretch of the local schedule, which is for at least twice as many.
const STRETCH_TILES: usize = 256;
/// Tiles that the local schedule transforms at once.
const LOCAL_TILES: usize = 16;

/// Parts of the local schedule that so many channels are dealt into.
fn parts(channels: usize) -> usize {
    channels.div_ceil(PART_CHANNELS)
}

/// First channel of a part, and number; the first is a multiple of [`BLOCK`].
fn part(channels: usize, i: usize) -> (usize, usize) {
    let blocks = channels.div_ceil(BLOCK);
    let first = i * blocks / parts(channels) * BLOCK;
    let end = (i + 1) * blocks / parts(channels) * BLOCK;
    (first, end.min(channels) - first)
}

/// # Safety
/// The level is available; the source and dy (`[N, H, W, c_out]`) fit the pixels, and dw
/// (`[3, 3, C_in, c_out]`) the channels.
pub(super) unsafe fn weight_gradient(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    mut dw: Destination<'_>,
) {
    let c_in = source.channels();
    if pixels.total() == 0 || dw.is_empty() {
        dw.into_slice().fill(0.0);
        return;
    }
    let tiling = Tiling::new(pixels);
    // At least one row of tiles each; one stretch is for the shared schedule.
    let stretches = if parts(c_in) * parts(c_out) <= FEW_PARTS {
        (tiling.rows() * tiling.wide / STRETCH_TILES).clamp(1, tiling.rows())
    } else {
        1
    };
    let sums = Sums { c_in, c_out, stretches };
    let mut sums_memory = Scratch::new(sums.len());
    let to = Shared::new(sums_memory.as_mut_ptr());
    let operands = Operands { level, tiling, source, dy, sums };
    // SAFETY: the caller's promise; there is room for the sums.
    unsafe {
        if stretches > 1 {
            operands.sum_locally(to);
        } else {
            operands.sum_shared(to);
        }
    }

    let from = to;
    let to = Shared::new(dw.as_mut_ptr());
    for_each_task(c_in.div_ceil(BLOCK), |task| {
        let rows = (task * BLOCK, BLOCK.min(c_in - task * BLOCK));
        // SAFETY: each task has input channels of its own.
        unsafe { dispatch(level, TransformBack { sums, from: from.get(), rows, to: to.get() }) };
    });
    // SAFETY: the tasks have written all input channels.
    unsafe { dw.mark_written() };
}

/// Sums over tiles in the Winograd domain: `[stretch][plane][C_in][C_out]`, channels rounded up to
/// blocks.
#[derive(Clone, Copy)]
struct Sums {
    c_in: usize,
    c_out: usize,
    stretches: usize,
}

impl Sums {
    fn rows(self) -> usize {
        self.c_in.next_multiple_of(BLOCK)
    }

    fn columns(self) -> usize {
        self.c_out.next_multiple_of(BLOCK)
    }

    /// An odd number of cache lines, so that planes do not meet in the same cache sets.
    fn plane_stride(self) -> usize {
        self.rows() * self.columns() + BLOCK
    }

    fn stretch_stride(self) -> usize {
        PLANES * self.plane_stride()
    }

    fn len(self) -> usize {
        self.stretches * self.stretch_stride()
    }
}

struct Operands<'a> {
    level: SimdLevel,
    tiling: Tiling,
    source: &'a Source<'a>,
    dy: &'a [f32],
    sums: Sums,
}

impl Operands<'_> {
    /// # Safety
    /// As [`weight_gradient`], and `to` has room for the sums.
    unsafe fn sum_locally(&self, to: Shared<*mut f32>) {
        let Operands { level, tiling, source, dy, sums } = *self;
        let (parts_in, parts_out) = (parts(sums.c_in), parts(sums.c_out));
        for_each_task(sums.stretches * parts_in * parts_out, |task| {
            let (stretch, pair) = (task / (parts_in * parts_out), task % (parts_in * parts_out));
            let channels_in = part(sums.c_in, pair / parts_out);
            let channels_out = part(sums.c_out, pair % parts_out);
            let first_row = stretch * tiling.rows() / sums.stretches;
            let end_row = (stretch + 1) * tiling.rows() / sums.stretches;
            let rows_at_once = (LOCAL_TILES / tiling.wide).max(1);
            let group =
                |n_rows: usize, channels: usize| Group { tiles: n_rows * tiling.wide, channels };
            let mut inputs = Scratch::new(group(rows_at_once, channels_in.1).len());
            let mut gradients = Scratch::new(group(rows_at_once, channels_out.1).len());
            let mut strip = Scratch::new(strip_len(tiling, channels_in.1));
            for row in (first_row..end_row).step_by(rows_at_once) {
                let rows = (row, rows_at_once.min(end_row - row));
                let inputs_group = group(rows.1, channels_in.1);
                let gradients_group = group(rows.1, channels_out.1);
                let input = TransformInput {
                    tiling,
                    source,
                    rows,
                    first_channel: channels_in.0,
                    channels: channels_in.1,
                    group: inputs_group,
                    to: inputs.as_mut_ptr(),
                    first_tile: 0,
                    strip: strip.as_mut_ptr(),
                    phase: None,
                };
                let gradient = TransformOutputGradient {
                    tiling,
                    dy,
                    c_out: sums.c_out,
                    first_channel: channels_out.0,
                    rows,
                    group: gradients_group,
                    to: gradients.as_mut_ptr(),
                    first_tile: 0,
                };
                let place = channels_in.0 * sums.columns() + channels_out.0;
                // SAFETY: the caller's promise; each task has sums of its own.
                unsafe {
                    dispatch(level, input);
                    dispatch(level, gradient);
                    let multiply = MultiplyPlanes {
                        inputs: inputs.as_mut_ptr(),
                        inputs_group,
                        gradients: gradients.as_mut_ptr(),
                        gradients_group,
                        sums,
                        to: to.get().add(stretch * sums.stretch_stride() + place),
                        planes: (0, PLANES),
                        accumulate: row > first_row,
                    };
                    dispatch(level, multiply);
                }
            }
        });
    }

    /// # Safety
    /// As [`weight_gradient`], and `to` has room for the sums of one stretch.
    unsafe fn sum_shared(&self, to: Shared<*mut f32>) {
        let Operands { level, tiling, source, dy, sums } = *self;
        let per_row = PLANES * tiling.wide * (sums.rows() + sums.columns());
        let rows_per_group = (GROUP_LEN / per_row).max(1);
        let mut first_row = 0;
        while first_row < tiling.rows() {
            let n_rows = rows_per_group.min(tiling.rows() - first_row);
            let tiles = n_rows * tiling.wide;
            let inputs_group = Group { tiles, channels: sums.c_in };
            let gradients_group = Group { tiles, channels: sums.c_out };
            let mut inputs = Scratch::new(inputs_group.len());
            let mut gradients = Scratch::new(gradients_group.len());
            let inputs = Shared::new(inputs.as_mut_ptr());
            let gradients = Shared::new(gradients.as_mut_ptr());
            for_each_task(n_rows, |row| {
                let mut strip = Scratch::new(strip_len(tiling, sums.c_in));
                let (rows, first_tile) = ((first_row + row, 1), row * tiling.wide);
                let input = TransformInput {
                    tiling,
                    source,
                    rows,
                    first_channel: 0,
                    channels: sums.c_in,
                    group: inputs_group,
                    to: inputs.get(),
                    first_tile,
                    strip: strip.as_mut_ptr(),
                    phase: None,
                };
                let gradient = TransformOutputGradient {
                    tiling,
                    dy,
                    c_out: sums.c_out,
                    first_channel: 0,
                    rows,
                    group: gradients_group,
                    to: gradients.get(),
                    first_tile,
                };
                // SAFETY: the caller's promise; each task has tiles of its own.
                unsafe {
                    dispatch(level, input);
                    dispatch(level, gradient);
                }
            });
            for_each_task(PLANES, |plane| {
                let kernel = MultiplyPlanes {
                    inputs: inputs.get(),
                    inputs_group,
                    gradients: gradients.get(),
                    gradients_group,
                    sums,
                    to: to.get(),
                    planes: (plane, 1),
                    accumulate: first_row > 0,
                };
                // SAFETY: each task has a plane of its own.
                unsafe { dispatch(level, kernel) };
            });
            first_row += n_rows;
        }
    }
}

/// Sums over the tiles of two groups, for some planes (first, number).
struct MultiplyPlanes {
    inputs: *const f32,
    inputs_group: Group,
    gradients: *const f32,
    gradients_group: Group,
    sums: Sums,
    /// The first of these sums in the first plane of the stretch.
    to: *mut f32,
    planes: (usize, usize),
    accumulate: bool,
}

impl Kernel for MultiplyPlanes {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for plane in self.planes.0..self.planes.0 + self.planes.1 {
            // SAFETY: the plane exists in both groups and in the sums.
            unsafe {
                multiply_transposed::<S>(
                    self.inputs_group.tiles,
                    self.inputs_group.channels.next_multiple_of(BLOCK),
                    self.gradients_group.channels.next_multiple_of(BLOCK),
                    self.inputs.add(plane * self.inputs_group.plane_stride()),
                    self.inputs_group.block_stride(),
                    self.gradients.add(plane * self.gradients_group.plane_stride()),
                    self.gradients_group.block_stride(),
                    self.to.add(plane * self.sums.plane_stride()),
                    self.sums.columns(),
                    self.accumulate,
                );
            }
        }
    }
}

/// Gᵀ u G for some input channels, u being the sum over the stretches.
struct TransformBack {
    sums: Sums,
    from: *const f32,
    /// First input channel and number.
    rows: (usize, usize),
    to: *mut f32,
}

impl Kernel for TransformBack {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let sums = self.sums;
        let Sums { c_in, c_out, .. } = sums;
        for row in self.rows.0..self.rows.0 + self.rows.1 {
            let mut column = 0;
            while column < c_out {
                let lanes = (c_out - column).min(S::LANES);
                let place = row * sums.columns() + column;
                // SAFETY: the row and the columns exist in the sums and in dw.
                unsafe {
                    let from = self.from.add(place);
                    let mut along_y = [[S::splat(0.0); 3]; 6];
                    for (j, along_y) in along_y.iter_mut().enumerate() {
                        let mut u = [S::splat(0.0); 6];
                        for (i, u) in u.iter_mut().enumerate() {
                            let from = from.add((i * 6 + j) * sums.plane_stride());
                            *u = S::load(from);
                            for stretch in 1..sums.stretches {
                                let more = S::load(from.add(stretch * sums.stretch_stride()));
                                *u = S::add(*u, more);
                            }
                        }
                        *along_y = transform::weight_gradient::<S>(u);
                    }
                    for ky in 0..3 {
                        let mut u = [S::splat(0.0); 6];
                        for (u, along_y) in u.iter_mut().zip(&along_y) {
                            *u = along_y[ky];
                        }
                        for (kx, &w) in transform::weight_gradient::<S>(u).iter().enumerate() {
                            let to = self.to.add(((ky * 3 + kx) * c_in + row) * c_out + column);
                            S::store_part(to, lanes, w);
                        }
                    }
                }
                column += lanes;
            }
        }
    }
}
