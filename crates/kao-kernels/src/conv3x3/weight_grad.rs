//! The weight gradient by way of the Winograd domain: inputs and output gradients of all tiles are
//! transformed, multiplied and summed plane by plane, and the sums transformed back.
//!
//! Channels are cut into parts on either side. A task sums all planes of one pair of parts in its
//! own cache and transforms the sums back at once, so that they never travel to memory and back.
//!
//! Two schedules, chosen by shape alone, since they sum in different orders:
//! - *local*, for many tiles and not too many channels: tiles are cut into stretches. A task
//!   transforms the tiles of one stretch for one pair, some at a time, and sums over them; the
//!   gradients of the stretches are added in order.
//! - *shared*: tiles are taken in groups. All tasks transform a group, then each sums over it for
//!   some pair and adds to the gradient.
//!
//! Behind an upsampling ([`Phase`]) the shared schedule takes the pixels before it, transformed once
//! for all four phases of the output gradients, and spreads what each phase gives over the weights.
//!
//! Within a stretch or a group tiles come in their order in the batch, so every sum is a chain of
//! additions that is the same whatever the number of threads.

use super::phase::Phase;
use super::tiles::{Group, Tiling, TransformInput, TransformOutputGradient, strip_len};
use super::transform;
use super::weights::PLANES;
use crate::gemm::{BLOCK, Blocked, RowMajor, TransposedProduct, multiply_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Destination, Pixels, Source};

/// The most transformed inputs and gradients of a group of the shared schedule, in f32.
const GROUP_LEN: usize = 1_500_000;
/// The most channels of a part: the sums of a pair of them fit the cache.
const PART_CHANNELS: usize = 64;
/// The most pairs of parts for the local schedule, which transforms every part once for each part
/// of the other side.
const FEW_PAIRS: usize = 2;
/// Tiles of a stretch of the local schedule, which is for at least twice as many.
const STRETCH_TILES: usize = 256;
/// Tiles that the local schedule transforms at once.
const LOCAL_TILES: usize = 16;
/// Values of the gradient that a task adds up over the stretches.
const SUM_LEN: usize = 4096;

/// First channel of a part, a multiple of [`BLOCK`], and number.
type Part = (usize, usize);

/// The channels of one side, dealt into parts of about the same size.
#[derive(Clone, Copy)]
struct Parts {
    channels: usize,
    count: usize,
}

impl Parts {
    fn new(channels: usize, most: usize) -> Self {
        Self { channels, count: channels.div_ceil(most) }
    }

    fn part(self, i: usize) -> Part {
        let blocks = self.channels.div_ceil(BLOCK);
        let first = i * blocks / self.count * BLOCK;
        let end = (i + 1) * blocks / self.count * BLOCK;
        (first, end.min(self.channels) - first)
    }
}

/// Pairs of parts, of input and output channels.
#[derive(Clone, Copy)]
struct Pairs {
    inputs: Parts,
    outputs: Parts,
}

impl Pairs {
    fn new(c_in: usize, c_out: usize, most: usize) -> Self {
        Self { inputs: Parts::new(c_in, most), outputs: Parts::new(c_out, most) }
    }

    fn count(self) -> usize {
        self.inputs.count * self.outputs.count
    }

    fn pair(self, i: usize) -> (Part, Part) {
        (self.inputs.part(i / self.outputs.count), self.outputs.part(i % self.outputs.count))
    }
}

/// # Safety
/// The level is available; the source and dy (`[N, H, W, c_out]`) fit the pixels, where `upsampled`
/// dy has twice their sides; dw (`[3, 3, C_in, c_out]`) fits the channels.
pub(super) unsafe fn weight_gradient(
    level: SimdLevel,
    pixels: Pixels,
    upsampled: bool,
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
    let pairs = Pairs::new(c_in, c_out, PART_CHANNELS);
    // At least one row of tiles each; one stretch is for the shared schedule.
    let stretches = if pairs.count() <= FEW_PAIRS && !upsampled {
        (tiling.rows() * tiling.wide / STRETCH_TILES).clamp(1, tiling.rows())
    } else {
        1
    };
    let operands = Operands { level, tiling, source, dy, c_in, c_out };
    // SAFETY: the caller's promise; there is room for the gradients.
    unsafe {
        if stretches > 1 {
            let mut gradients = Scratch::new(stretches * dw.len());
            let gradients = Shared::new(gradients.as_mut_ptr());
            operands.sum_locally(stretches, pairs, gradients);
            add_up(level, stretches, dw.len(), gradients, Shared::new(dw.as_mut_ptr()));
        } else {
            operands.sum_shared(upsampled, Shared::new(dw.as_mut_ptr()));
        }
        // All pairs of channels are there.
        dw.mark_written();
    }
}

struct Operands<'a> {
    level: SimdLevel,
    tiling: Tiling,
    source: &'a Source<'a>,
    dy: &'a [f32],
    c_in: usize,
    c_out: usize,
}

impl Operands<'_> {
    /// The gradient of every stretch.
    ///
    /// # Safety
    /// As [`weight_gradient`], and `to` has room for so many gradients.
    unsafe fn sum_locally(&self, stretches: usize, pairs: Pairs, to: Shared<*mut f32>) {
        let tiling = self.tiling;
        let gradient_len = 9 * self.c_in * self.c_out;
        let rows_at_once = (LOCAL_TILES / tiling.wide).max(1);
        for_each_task(stretches * pairs.count(), |task| {
            let (stretch, pair) = (task / pairs.count(), task % pairs.count());
            let (channels_in, channels_out) = pairs.pair(pair);
            let first_row = stretch * tiling.rows() / stretches;
            let end_row = (stretch + 1) * tiling.rows() / stretches;
            let group =
                |n_rows: usize, channels: usize| Group { tiles: n_rows * tiling.wide, channels };
            let mut inputs = Scratch::new(group(rows_at_once, channels_in.1).len());
            let mut gradients = Scratch::new(group(rows_at_once, channels_out.1).len());
            let mut strip = Scratch::new(strip_len(tiling, channels_in.1));
            let sums = Sums { channels_in, channels_out };
            let mut sums_memory = Scratch::new(sums.len());
            for row in (first_row..end_row).step_by(rows_at_once) {
                let rows = (row, rows_at_once.min(end_row - row));
                let inputs =
                    Transformed { group: group(rows.1, channels_in.1), at: inputs.as_mut_ptr() };
                let gradients = Transformed {
                    group: group(rows.1, channels_out.1),
                    at: gradients.as_mut_ptr(),
                };
                let (strip, to) = (strip.as_mut_ptr(), sums_memory.as_mut_ptr());
                // SAFETY: the caller's promise; there is room for the groups and the sums.
                unsafe {
                    self.transform_inputs(rows, channels_in.0, inputs, 0, strip);
                    self.transform_gradients(rows, channels_out.0, gradients, 0, None);
                    let accumulate = row > first_row;
                    let multiply =
                        MultiplyPlanes { inputs, gradients, sums, phase: None, to, accumulate };
                    dispatch(self.level, multiply);
                }
            }
            // SAFETY: the sums are there; each task has a part of a gradient of its own.
            unsafe {
                let to = to.get().add(stretch * gradient_len);
                self.transform_back(sums, sums_memory.as_mut_ptr(), None, to, false);
            }
        });
    }

    /// The gradient, group by group.
    ///
    /// # Safety
    /// As [`weight_gradient`], and `to` has room for the gradient.
    unsafe fn sum_shared(&self, upsampled: bool, to: Shared<*mut f32>) {
        let Operands { tiling, c_in, c_out, .. } = *self;
        // Smaller parts where there would be too few for the threads: no sum depends on it.
        let mut pairs = Pairs::new(c_in, c_out, PART_CHANNELS);
        if pairs.count() < 2 * rayon::current_num_threads() {
            pairs = Pairs::new(c_in, c_out, PART_CHANNELS / 2);
        }
        let channels = c_in.next_multiple_of(BLOCK) + c_out.next_multiple_of(BLOCK);
        let n_groups = (PLANES * tiling.wide * channels * tiling.rows())
            .div_ceil(GROUP_LEN)
            .clamp(1, tiling.rows());
        let phases = if upsampled { Phase::COUNT } else { 1 };
        for group in 0..n_groups {
            let first_row = group * tiling.rows() / n_groups;
            let n_rows = (group + 1) * tiling.rows() / n_groups - first_row;
            let tiles = n_rows * tiling.wide;
            let (inputs_group, gradients_group) =
                (Group { tiles, channels: c_in }, Group { tiles, channels: c_out });
            let mut inputs = Scratch::new(inputs_group.len());
            let mut gradients = Scratch::new(gradients_group.len());
            let inputs = Shared::new(inputs.as_mut_ptr());
            let gradients = Shared::new(gradients.as_mut_ptr());
            for i in 0..phases {
                let phase = upsampled.then(|| Phase::new(i));
                for_each_task(n_rows, |row| {
                    let (rows, first_tile) = ((first_row + row, 1), row * tiling.wide);
                    // SAFETY: the caller's promise; each task has tiles of its own.
                    unsafe {
                        if i == 0 {
                            let mut strip = Scratch::new(strip_len(tiling, c_in));
                            let to = Transformed { group: inputs_group, at: inputs.get() };
                            self.transform_inputs(rows, 0, to, first_tile, strip.as_mut_ptr());
                        }
                        let to = Transformed { group: gradients_group, at: gradients.get() };
                        self.transform_gradients(rows, 0, to, first_tile, phase);
                    }
                });
                for_each_task(pairs.count(), |task| {
                    let (channels_in, channels_out) = pairs.pair(task);
                    let sums = Sums { channels_in, channels_out };
                    let mut sums_memory = Scratch::new(sums.len());
                    let part = |group: Group, at: Shared<*mut f32>, channels: Part| {
                        let block = channels.0 / BLOCK * group.block_stride();
                        Transformed { group, at: at.get().wrapping_add(block) }
                    };
                    let multiply = MultiplyPlanes {
                        inputs: part(inputs_group, inputs, channels_in),
                        gradients: part(gradients_group, gradients, channels_out),
                        sums,
                        phase,
                        to: sums_memory.as_mut_ptr(),
                        accumulate: false,
                    };
                    let accumulate = group > 0 || i > 0;
                    // SAFETY: the parts exist in the groups; each task has a part of the gradient
                    // of its own.
                    unsafe {
                        dispatch(self.level, multiply);
                        let from = sums_memory.as_mut_ptr();
                        self.transform_back(sums, from, phase, to.get(), accumulate);
                    }
                });
            }
        }
    }

    /// Transforms some rows of tiles of the source, channels from the first given one on.
    ///
    /// # Safety
    /// As [`weight_gradient`]; the rows and channels exist, the group has room for the tiles, and
    /// `strip` for [`strip_len`].
    unsafe fn transform_inputs(
        &self,
        rows: (usize, usize),
        first_channel: usize,
        to: Transformed,
        first_tile: usize,
        strip: *mut f32,
    ) {
        let kernel = TransformInput {
            tiling: self.tiling,
            source: self.source,
            rows,
            first_channel,
            channels: to.group.channels,
            group: to.group,
            to: to.at,
            first_tile,
            strip,
            phase: None,
        };
        // SAFETY: the caller's promise.
        unsafe { dispatch(self.level, kernel) };
    }

    /// The same for dy, or a phase of it.
    ///
    /// # Safety
    /// As [`weight_gradient`]; the rows and channels exist, and the group has room for the tiles.
    unsafe fn transform_gradients(
        &self,
        rows: (usize, usize),
        first_channel: usize,
        to: Transformed,
        first_tile: usize,
        phase: Option<Phase>,
    ) {
        let kernel = TransformOutputGradient {
            tiling: self.tiling,
            dy: self.dy,
            c_out: self.c_out,
            first_channel,
            rows,
            group: to.group,
            to: to.at,
            first_tile,
            phase,
        };
        // SAFETY: the caller's promise.
        unsafe { dispatch(self.level, kernel) };
    }

    /// # Safety
    /// `from` holds the sums; `to` has room for the gradient, and holds values if it accumulates.
    unsafe fn transform_back(
        &self,
        sums: Sums,
        from: *const f32,
        phase: Option<Phase>,
        to: *mut f32,
        accumulate: bool,
    ) {
        let Operands { c_in, c_out, .. } = *self;
        let kernel = TransformBack { sums, from, phase, to, c_in, c_out, accumulate };
        // SAFETY: the caller's promise.
        unsafe { dispatch(self.level, kernel) };
    }
}

/// A group in the Winograd domain, from some block of channels on.
#[derive(Clone, Copy)]
struct Transformed {
    group: Group,
    at: *mut f32,
}

/// Sums over tiles in the Winograd domain for a pair of parts: `[plane][input][output]`, channels
/// rounded up to blocks.
#[derive(Clone, Copy)]
struct Sums {
    channels_in: Part,
    channels_out: Part,
}

impl Sums {
    fn rows(self) -> usize {
        self.channels_in.1.next_multiple_of(BLOCK)
    }

    fn columns(self) -> usize {
        self.channels_out.1.next_multiple_of(BLOCK)
    }

    /// An odd number of cache lines, so that planes do not meet in the same cache sets.
    fn plane_stride(self) -> usize {
        self.rows() * self.columns() + BLOCK
    }

    fn len(self) -> usize {
        PLANES * self.plane_stride()
    }
}

/// Sums over the tiles of two groups.
struct MultiplyPlanes {
    /// From the first channels of the pair on.
    inputs: Transformed,
    gradients: Transformed,
    sums: Sums,
    /// Of the gradients, if that is what they are: planes that do not count for it are left out.
    phase: Option<Phase>,
    to: *mut f32,
    accumulate: bool,
}

impl Kernel for MultiplyPlanes {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let MultiplyPlanes { inputs, gradients, sums, .. } = self;
        for plane in 0..PLANES {
            if self.phase.is_some_and(|phase| phase.is_zero(plane)) {
                continue;
            }
            // SAFETY: the plane exists in both groups and in the sums.
            unsafe {
                multiply_transposed::<S>(TransposedProduct {
                    depth: inputs.group.tiles,
                    rows: sums.rows(),
                    columns: sums.columns(),
                    a: Blocked {
                        at: inputs.at.add(plane * inputs.group.plane_stride()),
                        block_stride: inputs.group.block_stride(),
                    },
                    b: Blocked {
                        at: gradients.at.add(plane * gradients.group.plane_stride()),
                        block_stride: gradients.group.block_stride(),
                    },
                    c: RowMajor {
                        at: self.to.add(plane * sums.plane_stride()),
                        stride: sums.columns(),
                    },
                    accumulate: self.accumulate,
                });
            }
        }
    }
}

/// Gᵀ u G for a pair of parts, u being the sums.
struct TransformBack {
    sums: Sums,
    from: *const f32,
    /// Of the gradients that were summed over, if that is what they are.
    phase: Option<Phase>,
    /// `[3, 3, c_in, c_out]`.
    to: *mut f32,
    c_in: usize,
    c_out: usize,
    accumulate: bool,
}

impl Kernel for TransformBack {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sums { channels_in, channels_out } = self.sums;
        let plane_stride = self.sums.plane_stride();
        for row in 0..channels_in.1 {
            let mut column = 0;
            while column < channels_out.1 {
                let lanes = (channels_out.1 - column).min(S::LANES);
                // SAFETY: the row and the columns exist in the sums and in the gradient.
                unsafe {
                    let from = self.from.add(row * self.sums.columns() + column);
                    let mut along_y = [[S::splat(0.0); 3]; 6];
                    for (j, along_y) in along_y.iter_mut().enumerate() {
                        let mut u = [S::splat(0.0); 6];
                        for (i, u) in u.iter_mut().enumerate() {
                            *u = S::load(from.add((i * 6 + j) * plane_stride));
                        }
                        *along_y = transform::weight_gradient::<S>(u);
                    }
                    let mut taps = [[S::splat(0.0); 3]; 3];
                    for (ky, taps) in taps.iter_mut().enumerate() {
                        let mut u = [S::splat(0.0); 6];
                        for (u, along_y) in u.iter_mut().zip(&along_y) {
                            *u = along_y[ky];
                        }
                        *taps = transform::weight_gradient::<S>(u);
                    }
                    if let Some(phase) = self.phase {
                        taps = transform::phase_gradient::<S>(phase, taps);
                    }
                    let place = (channels_in.0 + row) * self.c_out + channels_out.0 + column;
                    for (tap, &w) in taps.as_flattened().iter().enumerate() {
                        let to = self.to.add(tap * self.c_in * self.c_out + place);
                        if self.accumulate {
                            S::store_part(to, lanes, S::add(S::load_part(to, lanes), w));
                        } else {
                            S::store_part(to, lanes, w);
                        }
                    }
                }
                column += lanes;
            }
        }
    }
}

/// Adds `count` gradients of `len` values in their order.
///
/// # Safety
/// The level is available; `from` holds them one behind the other, `to` has room for one.
unsafe fn add_up(
    level: SimdLevel,
    count: usize,
    len: usize,
    from: Shared<*mut f32>,
    to: Shared<*mut f32>,
) {
    for_each_task(len.div_ceil(SUM_LEN), |task| {
        let first = task * SUM_LEN;
        let kernel = AddUp {
            count,
            stride: len,
            from: from.get().wrapping_add(first),
            to: to.get().wrapping_add(first),
            len: SUM_LEN.min(len - first),
        };
        // SAFETY: the caller's promise; each task has values of its own.
        unsafe { dispatch(level, kernel) };
    });
}

/// The kernel of [`add_up`].
struct AddUp {
    count: usize,
    /// From one gradient to the next.
    stride: usize,
    from: *const f32,
    to: *mut f32,
    len: usize,
}

impl Kernel for AddUp {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for i in (0..self.len).step_by(S::LANES) {
            let lanes = S::LANES.min(self.len - i);
            // SAFETY: the values exist.
            unsafe {
                let from = self.from.add(i);
                let mut sum = S::load_part(from, lanes);
                for k in 1..self.count {
                    sum = S::add(sum, S::load_part(from.add(k * self.stride), lanes));
                }
                S::store_part(self.to.add(i), lanes, sum);
            }
        }
    }
}
