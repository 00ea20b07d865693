//! The backward pass.

use super::pack::{Block, Pack, PackTransposed};
use super::rows::{Results, exponentials, products_with_all};
use super::{AttentionGradients, AttentionInput, AttentionShape};
use crate::Epilogue;
use crate::gemm::{
    BLOCK, Blocked, PANEL, Product, RowMajor, TransposedProduct, multiply, multiply_transposed,
};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch, simd_level};

/// The most weights that the backward pass keeps, in f32; one unit's at least.
const KEPT_WEIGHTS: usize = 1 << 20;

/// The gradients of an attention of which there is something; lengths have been checked.
pub fn backward(
    shape: AttentionShape,
    input: &AttentionInput<'_>,
    dout: &[f32],
    gradients: AttentionGradients<'_>,
) {
    let AttentionInput { q, k, v } = *input;
    let AttentionGradients { q: dq, k: dk, v: dv } = gradients;
    let mut gradients = [dq, dk, dv];
    let level = simd_level();
    let weights_len = shape.pixels * shape.padded_pixels();
    let at_once = (KEPT_WEIGHTS / weights_len).clamp(1, shape.units());
    let (panels_len, blocked_len) = (shape.panels_len(), shape.blocked_len());
    let same = std::ptr::eq(k, v);
    // Per unit: keys and values transposed and keys in panels, queries and dout in blocked layout,
    // weights and gradients of the scores in blocked layout.
    let unit_len = 3 * panels_len + 2 * blocked_len + 2 * weights_len;
    let mut memory = Scratch::new(at_once * unit_len);
    let memory = Shared::new(memory.as_mut_ptr());
    let [output_q, output_k, output_v] =
        gradients.each_mut().map(|d| Output::new(d, shape.channels, &Epilogue::default()));
    for first_unit in (0..shape.units()).step_by(at_once) {
        let n_units = at_once.min(shape.units() - first_unit);
        // SAFETY: there is room for this many units.
        let of_unit = |i: usize| unsafe {
            let keys_transposed = memory.get().add(i * unit_len);
            let keys = keys_transposed.add(panels_len);
            let values_transposed =
                if same { keys_transposed } else { keys_transposed.add(2 * panels_len) };
            let queries = keys_transposed.add(3 * panels_len);
            let dout = queries.add(blocked_len);
            let weights = dout.add(blocked_len);
            let dscores = weights.add(weights_len);
            Unit { keys_transposed, values_transposed, keys, queries, dout, weights, dscores }
        };
        for_each_task(n_units, |i| {
            let (unit, to) = (first_unit + i, of_unit(i));
            // SAFETY: the level is available, the lengths were checked, each task has its own
            // unit.
            unsafe {
                dispatch(level, PackTransposed { shape, from: k, unit, to: to.keys_transposed });
                if !same {
                    let to = to.values_transposed;
                    dispatch(level, PackTransposed { shape, from: v, unit, to });
                }
                dispatch(level, Pack { shape, from: k, unit, to: to.keys });
                let pixels = (0, shape.pixels);
                dispatch(level, Block { shape, from: q, unit, pixels, to: to.queries });
                dispatch(level, Block { shape, from: dout, unit, pixels, to: to.dout });
            }
        });
        let blocks = shape.query_blocks();
        for_each_task(n_units * blocks, |task| {
            let (i, block) = (task / blocks, task % blocks);
            let queries = shape.queries(block);
            let mut scores = Scratch::new(queries.1 * shape.padded_pixels());
            let mut dweights = Scratch::new(queries.1 * shape.padded_pixels());
            let mut products = Scratch::new(queries.1 * PANEL);
            let kernel = QueryGradient {
                shape,
                unit: first_unit + i,
                memory: of_unit(i),
                queries,
                scores: scores.as_mut_ptr(),
                dweights: dweights.as_mut_ptr(),
                products: products.as_mut_ptr(),
                output: &output_q,
            };
            // SAFETY: the level is available, the lengths were checked, each task has its own
            // queries.
            unsafe { dispatch(level, kernel) };
        });
        let key_blocks = shape.pixels.div_ceil(BLOCK);
        for_each_task(n_units * key_blocks, |task| {
            let (i, block) = (task / key_blocks, task % key_blocks);
            let mut sums = Scratch::new(BLOCK * shape.width().next_multiple_of(BLOCK));
            let kernel = KeyGradient {
                shape,
                unit: first_unit + i,
                memory: of_unit(i),
                block,
                sums: sums.as_mut_ptr(),
                output_k: &output_k,
                output_v: &output_v,
            };
            // SAFETY: the level is available, the lengths were checked, each task has its own keys.
            unsafe { dispatch(level, kernel) };
        });
    }
    for gradient in gradients {
        // SAFETY: the tasks have written all queries and all keys.
        unsafe { gradient.mark_written() };
    }
}

/// What the backward pass keeps of a unit.
#[derive(Clone, Copy)]
struct Unit {
    /// In panels of pixels.
    keys_transposed: *mut f32,
    values_transposed: *mut f32,
    /// In panels of channels.
    keys: *mut f32,
    /// In blocked layout, all pixels.
    queries: *mut f32,
    dout: *mut f32,
    /// `[query][key]` in blocked layout, all queries.
    weights: *mut f32,
    dscores: *mut f32,
}

/// Weights, gradients of the scores, and dq for a block of queries.
struct QueryGradient<'a> {
    shape: AttentionShape,
    unit: usize,
    memory: Unit,
    queries: (usize, usize),
    scores: *mut f32,
    dweights: *mut f32,
    products: *mut f32,
    output: &'a Output<'a>,
}

impl Kernel for QueryGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (AttentionShape { pixels, scale, .. }, channels) = (self.shape, self.shape.width());
        let (first_pixel, first_channel) = self.shape.origin(self.unit);
        let (first, n_queries) = self.queries;
        let (memory, shape, padded) = (self.memory, self.shape, self.shape.padded_pixels());
        let block_stride = pixels * BLOCK;
        // SAFETY: the caller of `dispatch` promises room.
        unsafe {
            let (queries, dout) =
                (memory.queries.add(first * BLOCK), memory.dout.add(first * BLOCK));
            let (keys, values) = (memory.keys_transposed, memory.values_transposed);
            let [queries, dout] = [queries, dout].map(|at| Blocked { at, block_stride });
            products_with_all::<S>(shape, n_queries, queries, keys, self.scores);
            products_with_all::<S>(shape, n_queries, dout, values, self.dweights);
            for row in 0..n_queries {
                let scores = self.scores.add(row * padded);
                let dweights = self.dweights.add(row * padded);
                let weights = memory.weights.add((first + row) * BLOCK);
                let dscores = memory.dscores.add((first + row) * BLOCK);
                let sum = exponentials::<S>(pixels, scale, scores, weights, block_stride);
                let factor = S::splat(1.0 / sum);
                let mut mean = S::splat(0.0);
                for i in (0..pixels).step_by(S::LANES) {
                    let lanes = (pixels - i).min(S::LANES);
                    let weights = weights.add(i / BLOCK * block_stride + i % BLOCK);
                    let weight = S::mul(S::load_part(weights, lanes), factor);
                    S::store_part(weights, lanes, weight);
                    mean = S::fma(weight, S::load_part(dweights.add(i), lanes), mean);
                }
                let mean = S::splat(S::sum(mean));
                for i in (0..pixels).step_by(S::LANES) {
                    let lanes = (pixels - i).min(S::LANES);
                    let place = i / BLOCK * block_stride + i % BLOCK;
                    let weight = S::load_part(weights.add(place), lanes);
                    let difference = S::sub(S::load_part(dweights.add(i), lanes), mean);
                    let dscore = S::mul(S::mul(weight, difference), S::splat(scale));
                    S::store_part(dscores.add(place), lanes, dscore);
                }
            }
            for panel in 0..channels.div_ceil(PANEL) {
                let width = (channels - panel * PANEL).min(PANEL);
                multiply::<S>(Product {
                    rows: n_queries,
                    depth: pixels,
                    columns: width,
                    a: Blocked { at: memory.dscores.add(first * BLOCK), block_stride },
                    b: memory.keys.add(panel * pixels * PANEL),
                    c: RowMajor { at: self.products, stride: PANEL },
                    accumulate: false,
                });
                let results = Results {
                    values: RowMajor { at: self.products, stride: PANEL },
                    rows: n_queries,
                    width,
                    pixel: first_pixel + first,
                    channel: first_channel + panel * PANEL,
                };
                results.write::<S>(self.output, None);
            }
        }
    }
}

/// dk and dv for a block of keys.
struct KeyGradient<'a> {
    shape: AttentionShape,
    unit: usize,
    memory: Unit,
    block: usize,
    sums: *mut f32,
    output_k: &'a Output<'a>,
    output_v: &'a Output<'a>,
}

impl Kernel for KeyGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (AttentionShape { pixels, .. }, channels) = (self.shape, self.shape.width());
        let (first_pixel, channel) = self.shape.origin(self.unit);
        let padded = channels.next_multiple_of(BLOCK);
        let (memory, stride) = (self.memory, pixels * BLOCK);
        let rows = BLOCK.min(pixels - self.block * BLOCK);
        let pixel = first_pixel + self.block * BLOCK;
        let sums = RowMajor { at: self.sums, stride: padded };
        // Where the last block has fewer keys than it has room for, nobody has written the rest.
        // SAFETY: each block of both has `pixels` rows of `BLOCK` values, and belongs to one task.
        unsafe {
            for matrix in [memory.weights, memory.dscores] {
                for query in 0..pixels * usize::from(rows < BLOCK) {
                    let row = matrix.add(self.block * stride + query * BLOCK);
                    row.add(rows).write_bytes(0, BLOCK - rows);
                }
            }
        }
        for (left, right, output) in [
            (memory.weights, memory.dout, self.output_v),
            (memory.dscores, memory.queries, self.output_k),
        ] {
            // SAFETY: the caller of `dispatch` promises room.
            unsafe {
                let left = left.add(self.block * stride);
                multiply_transposed::<S>(TransposedProduct {
                    depth: pixels,
                    rows: BLOCK,
                    columns: padded,
                    a: Blocked { at: left, block_stride: stride },
                    b: Blocked { at: right, block_stride: stride },
                    c: sums,
                    accumulate: false,
                });
                let results = Results { values: sums, rows, width: channels, pixel, channel };
                results.write::<S>(output, None);
            }
        }
    }
}
