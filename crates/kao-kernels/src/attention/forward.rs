//! The forward pass.

use super::pack::{Block, Pack, PackTransposed};
use super::rows::{Results, exponentials, products_with_all};
use super::{AttentionInput, AttentionShape, QUERIES};
use crate::gemm::{BLOCK, Blocked, PANEL, Product, RowMajor, multiply};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch, simd_level};
use crate::{Destination, Epilogue};

/// An attention of which there is something; lengths have been checked.
pub fn attend(shape: AttentionShape, input: &AttentionInput<'_>, mut out: Destination<'_>) {
    let AttentionInput { q, k, v } = *input;
    let level = simd_level();
    let panels_len = shape.panels_len();
    let mut keys = Scratch::new(shape.units() * panels_len);
    let mut values = Scratch::new(shape.units() * panels_len);
    let (keys, values) = (Shared::new(keys.as_mut_ptr()), Shared::new(values.as_mut_ptr()));
    for_each_task(shape.units(), |unit| {
        // SAFETY: the level is available, the lengths were checked, each task has its own unit.
        unsafe {
            let (keys, values) =
                (keys.get().add(unit * panels_len), values.get().add(unit * panels_len));
            dispatch(level, PackTransposed { shape, from: k, unit, to: keys });
            dispatch(level, Pack { shape, from: v, unit, to: values });
        }
    });
    let output = Output::new(&mut out, shape.channels, &Epilogue::default());
    let blocks = shape.query_blocks();
    for_each_task(shape.units() * blocks, |task| {
        let (unit, block) = (task / blocks, task % blocks);
        let queries = shape.queries(block);
        let mut blocked = Scratch::new(queries.1 * shape.width().next_multiple_of(BLOCK));
        let mut scores = Scratch::new(queries.1 * shape.padded_pixels());
        let mut weights = Scratch::new(queries.1 * shape.padded_pixels());
        let mut products = Scratch::new(queries.1 * PANEL);
        // SAFETY: the level is available, the lengths were checked, each task has its own queries.
        unsafe {
            let kernel = Attend {
                shape,
                q,
                unit,
                queries,
                keys: keys.get().add(unit * panels_len),
                values: values.get().add(unit * panels_len),
                blocked: blocked.as_mut_ptr(),
                scores: scores.as_mut_ptr(),
                weights: weights.as_mut_ptr(),
                products: products.as_mut_ptr(),
                output: &output,
            };
            dispatch(level, kernel);
        }
    });
    // SAFETY: the tasks have written all queries.
    unsafe { out.mark_written() };
}

/// The forward pass for a block of queries.
struct Attend<'a> {
    shape: AttentionShape,
    q: &'a [f32],
    unit: usize,
    /// First and number.
    queries: (usize, usize),
    keys: *const f32,
    values: *const f32,
    blocked: *mut f32,
    scores: *mut f32,
    weights: *mut f32,
    products: *mut f32,
    output: &'a Output<'a>,
}

impl Kernel for Attend<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (AttentionShape { pixels, scale, .. }, channels) = (self.shape, self.shape.width());
        let (first_pixel, first_channel) = self.shape.origin(self.unit);
        let (first, n_queries) = self.queries;
        let block_stride = n_queries * BLOCK;
        // SAFETY: the caller of `dispatch` promises room.
        unsafe {
            let (shape, unit) = (self.shape, self.unit);
            let block = Block { shape, from: self.q, unit, pixels: self.queries, to: self.blocked };
            block.run::<S>();
            let scores = self.scores;
            let queries = Blocked { at: self.blocked, block_stride };
            products_with_all::<S>(shape, n_queries, queries, self.keys, scores);
            let mut factors = [0.0; QUERIES];
            for (row, factor) in factors.iter_mut().enumerate().take(n_queries) {
                let scores = scores.add(row * shape.padded_pixels());
                let to = self.weights.add(row * BLOCK);
                *factor = 1.0 / exponentials::<S>(pixels, scale, scores, to, block_stride);
            }
            for panel in 0..channels.div_ceil(PANEL) {
                let width = (channels - panel * PANEL).min(PANEL);
                let products = RowMajor { at: self.products, stride: PANEL };
                multiply::<S>(Product {
                    rows: n_queries,
                    depth: pixels,
                    columns: width,
                    a: Blocked { at: self.weights, block_stride },
                    b: self.values.add(panel * pixels * PANEL),
                    c: products,
                    accumulate: false,
                });
                let results = Results {
                    values: products,
                    rows: n_queries,
                    width,
                    pixel: first_pixel + first,
                    channel: first_channel + panel * PANEL,
                };
                results.write::<S>(self.output, Some(&factors));
            }
        }
    }
}
