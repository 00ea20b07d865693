//! The gradient with respect to the weights of a gathered convolution.

use super::gather::gather;
use super::window::Window;
use crate::gemm::{BLOCK, Blocked, RowMajor, TransposedProduct, multiply_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Destination, Pixels, Source};

/// The most gathered inputs and gradients of a group, in f32.
const GROUP_LEN: usize = 1_800_000;
/// Rows of a gathering task.
const GATHER_ROWS: usize = 64;
/// The most blocks of input channels of a multiplying task.
const TASK_BLOCKS: usize = 4;
/// Rows of a stretch of the local schedule, and the most stretches.
const STRETCH_ROWS: usize = 512;
const STRETCHES: usize = 16;
/// The most sums of a stretch, and the most that is gathered for it at once, in f32.
const STRETCH_SUMS: usize = 150_000;
const STRETCH_LEN: usize = 200_000;

/// `dw = gathered sourceᵀ · dy`, `[taps, C_in, c_out]`.
///
/// Two schedules, chosen by shape alone, since they sum in different orders:
/// - *local*, for many rows and not too many weights: rows are cut into stretches. A task gathers
///   and sums one stretch in its own cache; the stretches are added in order.
/// - *shared*: rows are taken in groups. All tasks gather a group, then each sums some channels.
///
/// # Safety
/// The level is available; the source fits the window's input, dy (`[rows, c_out]`) its rows, dw
/// taps and channels.
pub unsafe fn weight_gradient(
    level: SimdLevel,
    window: Window,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    mut dw: Destination<'_>,
) {
    if window.rows() == 0 || dw.is_empty() {
        dw.into_slice().fill(0.0);
        return;
    }
    let products = Products { level, window, source, dy, c_out };
    let stretches = (window.rows() / STRETCH_ROWS).min(STRETCHES);
    // SAFETY: the caller's promise.
    unsafe {
        if stretches > 1 && products.sums_len() <= STRETCH_SUMS {
            products.sum_locally(stretches, &mut dw);
        } else {
            products.sum_shared(&mut dw);
        }
        dw.mark_written();
    }
}

/// The products that a weight gradient sums.
struct Products<'a> {
    level: SimdLevel,
    window: Window,
    source: &'a Source<'a>,
    dy: &'a [f32],
    c_out: usize,
}

impl Products<'_> {
    fn padded_in(&self) -> usize {
        self.source.channels().next_multiple_of(BLOCK)
    }

    fn padded_out(&self) -> usize {
        self.c_out.next_multiple_of(BLOCK)
    }

    /// Length of `[taps, C_in, c_out]`, channels rounded up to blocks.
    fn sums_len(&self) -> usize {
        self.window.taps() * self.padded_in() * self.padded_out()
    }

    /// What is gathered for a row.
    fn row_len(&self) -> usize {
        self.window.taps() * self.padded_in() + self.padded_out()
    }

    /// # Safety
    /// As [`weight_gradient`].
    unsafe fn sum_locally(&self, stretches: usize, dw: &mut Destination<'_>) {
        let (n_rows, padded_in) = (self.window.rows(), self.padded_in());
        let mut sums = Scratch::new(stretches * self.sums_len());
        let sums = Shared::new(sums.as_mut_ptr());
        let rows_at_once = (STRETCH_LEN / self.row_len()).max(GATHER_ROWS);
        for_each_task(stretches, |stretch| {
            let first_of_stretch = stretch * n_rows / stretches;
            let end = (stretch + 1) * n_rows / stretches;
            let mut gathered = Scratch::new(rows_at_once * self.row_len());
            let inputs = gathered.as_mut_ptr();
            for first in (first_of_stretch..end).step_by(rows_at_once) {
                let n = rows_at_once.min(end - first);
                // SAFETY: there is room for so many rows; each task has sums of its own.
                unsafe {
                    let gradients = inputs.add(self.window.taps() * n * padded_in);
                    self.gather((first, n), inputs, gradients, n);
                    for tap in 0..self.window.taps() {
                        let to = stretch * self.sums_len() + tap * padded_in * self.padded_out();
                        let kernel = MultiplyBlocks {
                            depth: n,
                            blocks: padded_in / BLOCK,
                            padded_out: self.padded_out(),
                            inputs: inputs.add(tap * n * padded_in),
                            gradients,
                            sums: sums.get().add(to),
                            accumulate: first > first_of_stretch,
                        };
                        dispatch(self.level, kernel);
                    }
                }
            }
        });
        // SAFETY: the sums are there, and all tasks are done.
        unsafe { self.add_stretches(sums, stretches, dw) };
    }

    /// dw from the sums of the stretches.
    ///
    /// # Safety
    /// The sums have been written.
    unsafe fn add_stretches(
        &self,
        sums: Shared<*mut f32>,
        stretches: usize,
        dw: &mut Destination<'_>,
    ) {
        let (c_in, c_out) = (self.source.channels(), self.c_out);
        let to = Shared::new(dw.as_mut_ptr());
        for_each_task((self.window.taps() * c_in).div_ceil(GATHER_ROWS), |task| {
            let first = task * GATHER_ROWS;
            for i in first..(first + GATHER_ROWS).min(self.window.taps() * c_in) {
                let place = (i / c_in * self.padded_in() + i % c_in) * self.padded_out();
                // SAFETY: sums and dw hold this row, and each task has rows of its own.
                unsafe {
                    let row = |stretch: usize| {
                        let from = sums.get().add(stretch * self.sums_len() + place);
                        std::slice::from_raw_parts(from, c_out)
                    };
                    let to = to.get().add(i * c_out);
                    to.copy_from_nonoverlapping(row(0).as_ptr(), c_out);
                    let to = std::slice::from_raw_parts_mut(to, c_out);
                    for stretch in 1..stretches {
                        for (to, more) in to.iter_mut().zip(row(stretch)) {
                            *to += more;
                        }
                    }
                }
            }
        });
    }

    /// # Safety
    /// As [`weight_gradient`].
    unsafe fn sum_shared(&self, dw: &mut Destination<'_>) {
        let (n_rows, taps) = (self.window.rows(), self.window.taps());
        let (padded_in, padded_out) = (self.padded_in(), self.padded_out());
        // Whole blocks need no memory beside dw.
        let in_place = self.sums_len() == dw.len();
        let mut memory = Scratch::new(if in_place { 0 } else { self.sums_len() });
        let sums = if in_place { dw.as_mut_ptr() } else { memory.as_mut_ptr() };
        let sums = Shared::new(sums);
        // Groups depend on the channels alone.
        let rows_at_once = (GROUP_LEN / self.row_len()).max(GATHER_ROWS);
        for first_row in (0..n_rows).step_by(rows_at_once) {
            let group_rows = rows_at_once.min(n_rows - first_row);
            let mut inputs = Scratch::new(taps * group_rows * padded_in);
            let mut gradients = Scratch::new(group_rows * padded_out);
            let inputs = Shared::new(inputs.as_mut_ptr());
            let gradients = Shared::new(gradients.as_mut_ptr());
            for_each_task(group_rows.div_ceil(GATHER_ROWS), |task| {
                let first = task * GATHER_ROWS;
                let rows = (first_row + first, GATHER_ROWS.min(group_rows - first));
                // SAFETY: the caller's promise; each task has rows of its own.
                unsafe {
                    let inputs = inputs.get().add(first * BLOCK);
                    let gradients = gradients.get().add(first * BLOCK);
                    self.gather(rows, inputs, gradients, group_rows);
                }
            });
            // Few tasks, since each reads all gradients; enough for all threads.
            let blocks = padded_in / BLOCK;
            let at_once = taps * blocks / (2 * rayon::current_num_threads());
            let at_once = at_once.clamp(1, TASK_BLOCKS);
            let parts = blocks.div_ceil(at_once);
            for_each_task(taps * parts, |task| {
                let (tap, first) = (task / parts, task % parts * at_once);
                // SAFETY: each task has rows of the sums of its own.
                unsafe {
                    let place = tap * padded_in + first * BLOCK;
                    let kernel = MultiplyBlocks {
                        depth: group_rows,
                        blocks: at_once.min(blocks - first),
                        padded_out,
                        inputs: inputs.get().add(place * group_rows),
                        gradients: gradients.get(),
                        sums: sums.get().add(place * padded_out),
                        accumulate: first_row > 0,
                    };
                    dispatch(self.level, kernel);
                }
            });
        }
        if !in_place {
            // SAFETY: the sums are there, and all tasks are done.
            unsafe { self.add_stretches(sums, 1, dw) };
        }
    }

    /// Gathers rows (first, number) into the blocked layout of a group of `group_rows`: the inputs
    /// of all taps, and the gradients.
    ///
    /// # Safety
    /// As [`weight_gradient`]; there is room for the group from these rows on.
    unsafe fn gather(
        &self,
        rows: (usize, usize),
        inputs: *mut f32,
        gradients: *mut f32,
        group_rows: usize,
    ) {
        let dy = Source::new(self.dy, self.c_out);
        let pixels = Window::Pointwise(Pixels::rows(self.window.rows()));
        let tap_len = group_rows * self.padded_in();
        // SAFETY: the caller's promise.
        unsafe {
            for tap in 0..self.window.taps() {
                let (window, source, to) = (self.window, self.source, inputs.add(tap * tap_len));
                dispatch(self.level, Gather { window, source, rows, tap, to, group_rows });
            }
            let (window, source, to) = (pixels, &dy, gradients);
            dispatch(self.level, Gather { window, source, rows, tap: 0, to, group_rows });
        }
    }
}

struct Gather<'a> {
    window: Window,
    source: &'a Source<'a>,
    rows: (usize, usize),
    tap: usize,
    to: *mut f32,
    group_rows: usize,
}

impl Kernel for Gather<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        unsafe {
            gather::<S>(self.window, self.source, self.rows, self.tap, self.to, self.group_rows);
        }
    }
}

/// Some blocks of input channels of one tap, against all output channels.
struct MultiplyBlocks {
    depth: usize,
    blocks: usize,
    padded_out: usize,
    inputs: *const f32,
    gradients: *const f32,
    sums: *mut f32,
    accumulate: bool,
}

impl Kernel for MultiplyBlocks {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller of `dispatch` promises it.
        unsafe {
            let blocked = |at| Blocked { at, block_stride: self.depth * BLOCK };
            multiply_transposed::<S>(TransposedProduct {
                depth: self.depth,
                rows: self.blocks * BLOCK,
                columns: self.padded_out,
                a: blocked(self.inputs),
                b: blocked(self.gradients),
                c: RowMajor { at: self.sums, stride: self.padded_out },
                accumulate: self.accumulate,
            });
        }
    }
}
