//! The weight gradient by way of the Winograd domain: inputs and output gradients of all tiles are
//! transformed, multiplied and summed plane by plane, and the sums transformed back.
//!
//! Tiles are taken in groups, and within each plane in their order in the batch, so every sum is
//! one chain of additions, whatever the number of threads.

use super::tiles::{Group, Tiling, TransformInput, TransformOutputGradient, strip_len};
use super::transform;
use super::weights::PLANES;
use crate::gemm::{BLOCK, multiply_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Pixels, Source};

/// The most transformed inputs and gradients of a group, in f32.
const GROUP_LEN: usize = 1_800_000;

/// # Safety
/// The level is available; the source and dy (`[N, H, W, c_out]`) fit the pixels, and dw
/// (`[3, 3, C_in, c_out]`) the channels.
pub(super) unsafe fn weight_gradient(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    dy: &[f32],
    c_out: usize,
    dw: &mut [f32],
) {
    let c_in = source.channels();
    if pixels.total() == 0 || dw.is_empty() {
        dw.fill(0.0);
        return;
    }
    let tiling = Tiling::new(pixels);
    let sums = Sums { c_in, c_out };
    let mut sums_memory = Scratch::new(sums.len());
    let to = Shared::new(sums_memory.as_mut_ptr());

    // Groups depend on the shape of an image and the channels alone.
    let per_row = PLANES * tiling.wide * (sums.rows() + sums.columns());
    let rows_per_group = (GROUP_LEN / per_row).max(1);
    let mut first_row = 0;
    while first_row < tiling.rows() {
        let n_rows = rows_per_group.min(tiling.rows() - first_row);
        let tiles = n_rows * tiling.wide;
        let inputs_group = Group { tiles, channels: c_in };
        let gradients_group = Group { tiles, channels: c_out };
        let mut inputs = Scratch::new(inputs_group.len());
        let mut gradients = Scratch::new(gradients_group.len());
        let inputs = Shared::new(inputs.as_mut_ptr());
        let gradients = Shared::new(gradients.as_mut_ptr());
        for_each_task(n_rows, |row| {
            let mut strip = Scratch::new(strip_len(tiling, c_in));
            let (rows, first_tile) = ((first_row + row, 1), row * tiling.wide);
            // SAFETY: the caller's promise; each task has tiles of its own.
            unsafe {
                dispatch(
                    level,
                    TransformInput {
                        tiling,
                        source,
                        rows,
                        group: inputs_group,
                        to: inputs.get(),
                        first_tile,
                        strip: strip.as_mut_ptr(),
                    },
                );
                dispatch(
                    level,
                    TransformOutputGradient {
                        tiling,
                        dy,
                        rows,
                        group: gradients_group,
                        to: gradients.get(),
                        first_tile,
                    },
                );
            }
        });
        let accumulate = first_row > 0;
        for_each_task(PLANES, |plane| {
            let kernel = MultiplyPlane {
                inputs: inputs.get(),
                inputs_group,
                gradients: gradients.get(),
                gradients_group,
                sums,
                to: to.get(),
                plane,
                accumulate,
            };
            // SAFETY: each task has a plane of its own.
            unsafe { dispatch(level, kernel) };
        });
        first_row += n_rows;
    }

    let from = to;
    let to = Shared::new(dw.as_mut_ptr());
    for_each_task(c_in.div_ceil(BLOCK), |task| {
        let rows = (task * BLOCK, BLOCK.min(c_in - task * BLOCK));
        // SAFETY: each task has input channels of its own.
        unsafe { dispatch(level, TransformBack { sums, from: from.get(), rows, to: to.get() }) };
    });
}

/// Sums over tiles in the Winograd domain: `[plane][C_in][C_out]`, both rounded up to blocks.
#[derive(Clone, Copy)]
struct Sums {
    c_in: usize,
    c_out: usize,
}

impl Sums {
    fn rows(self) -> usize {
        self.c_in.next_multiple_of(BLOCK)
    }

    fn columns(self) -> usize {
        self.c_out.next_multiple_of(BLOCK)
    }

    fn plane_stride(self) -> usize {
        self.rows() * self.columns() + BLOCK
    }

    fn len(self) -> usize {
        PLANES * self.plane_stride()
    }
}

struct MultiplyPlane {
    inputs: *const f32,
    inputs_group: Group,
    gradients: *const f32,
    gradients_group: Group,
    sums: Sums,
    to: *mut f32,
    plane: usize,
    accumulate: bool,
}

impl Kernel for MultiplyPlane {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the plane exists in both groups and in the sums.
        unsafe {
            multiply_transposed::<S>(
                self.inputs_group.tiles,
                self.sums.rows(),
                self.sums.columns(),
                self.inputs.add(self.plane * self.inputs_group.plane_stride()),
                self.inputs_group.block_stride(),
                self.gradients.add(self.plane * self.gradients_group.plane_stride()),
                self.gradients_group.block_stride(),
                self.to.add(self.plane * self.sums.plane_stride()),
                self.sums.columns(),
                self.accumulate,
            );
        }
    }
}

/// Gᵀ u G for some input channels.
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
        let Sums { c_in, c_out } = self.sums;
        for row in self.rows.0..self.rows.0 + self.rows.1 {
            let mut column = 0;
            while column < c_out {
                let lanes = (c_out - column).min(S::LANES);
                // SAFETY: the row and the columns exist in the sums and in dw.
                unsafe {
                    let from = self.from.add(row * self.sums.columns() + column);
                    let mut along_y = [[S::splat(0.0); 3]; 6];
                    for (j, along_y) in along_y.iter_mut().enumerate() {
                        let mut u = [S::splat(0.0); 6];
                        for (i, u) in u.iter_mut().enumerate() {
                            *u = S::load(from.add((i * 6 + j) * self.sums.plane_stride()));
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
