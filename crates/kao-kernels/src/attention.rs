//! Single-head attention over the pixels of each image.
//!
//! Queries are taken in blocks; a block's scores against all keys stay in the cache. The backward
//! pass computes the weights again, keeps them with their gradients for a few images at a time, and
//! sums the gradients of keys and values over the queries in order.

use crate::Source;
use crate::activation::{Identity, exp};
use crate::gemm::pack::{Rows, copy_source, pack_panel, pack_panel_transposed};
use crate::gemm::{BLOCK, PANEL, multiply, multiply_transposed};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::profile::Timed;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch, simd_level};
use crate::{Destination, Epilogue};

/// Queries of a task.
const QUERIES: usize = 56;
/// The most weights that the backward pass keeps, in f32; one image's at least.
const KEPT_WEIGHTS: usize = 1 << 20;

/// The shape of an attention, and the factor of its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Number of images.
    pub n: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Channels of queries, keys and values.
    pub channels: usize,
    /// What q · kᵀ is multiplied by, usually channels^−½.
    pub scale: f32,
}

impl AttentionShape {
    /// With the scale channels^−½.
    pub fn new(n: usize, pixels: usize, channels: usize) -> Self {
        Self { n, pixels, channels, scale: (1.0 / (channels as f64).sqrt()) as f32 }
    }

    /// Height and width, taking the images to be square; one row of pixels where they cannot be.
    fn resolution(&self) -> [usize; 2] {
        let side = self.pixels.isqrt();
        if side * side == self.pixels { [side, side] } else { [1, self.pixels] }
    }

    fn elements(&self) -> usize {
        self.n * self.pixels * self.channels
    }

    /// Blocks of queries of an image.
    fn query_blocks(&self) -> usize {
        self.pixels.div_ceil(QUERIES)
    }

    /// First query of a block and number.
    fn queries(&self, block: usize) -> (usize, usize) {
        let blocks = self.query_blocks();
        let first = block * self.pixels / blocks;
        (first, (block + 1) * self.pixels / blocks - first)
    }

    /// Pixels rounded up to panels: the stride of scores.
    fn padded_pixels(&self) -> usize {
        self.pixels.next_multiple_of(PANEL)
    }

    /// Length of one image's keys or values in panels, either way round.
    fn panels_len(&self) -> usize {
        self.padded_pixels() * self.channels.next_multiple_of(PANEL)
    }

    /// Length of one image's queries in blocked layout.
    fn blocked_len(&self) -> usize {
        self.pixels * self.channels.next_multiple_of(BLOCK)
    }
}

/// `out = softmax(scale · q · kᵀ) · v` for each image.
///
/// # Shapes
/// q, k, v, out: `[N, pixels, channels]`.
///
/// # Panics
/// If a length does not fit.
pub fn attention<'a>(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: impl Into<Destination<'a>>,
) {
    let out = out.into();
    let _timed = Timed::start("attention", shape.resolution());
    assert_eq!(q.len(), shape.elements(), "length of q");
    assert_eq!(k.len(), shape.elements(), "length of k");
    assert_eq!(v.len(), shape.elements(), "length of v");
    assert_eq!(out.len(), shape.elements(), "length of the output");
    if !out.is_empty() {
        attend(shape, q, k, v, out);
    }
}

/// [`attention`], of which there is something.
fn attend(shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32], mut out: Destination<'_>) {
    let level = simd_level();
    let panels_len = shape.panels_len();
    let mut keys = Scratch::new(shape.n * panels_len);
    let mut values = Scratch::new(shape.n * panels_len);
    let (keys, values) = (Shared::new(keys.as_mut_ptr()), Shared::new(values.as_mut_ptr()));
    for_each_task(shape.n, |image| {
        // SAFETY: the level is available, the lengths were checked, each task has its own image.
        unsafe {
            let (keys, values) =
                (keys.get().add(image * panels_len), values.get().add(image * panels_len));
            dispatch(level, PackTransposed { shape, from: k, image, to: keys });
            dispatch(level, Pack { shape, from: v, image, to: values });
        }
    });
    let output = Output::new(&mut out, shape.channels, &Epilogue::default());
    let blocks = shape.query_blocks();
    for_each_task(shape.n * blocks, |task| {
        let (image, block) = (task / blocks, task % blocks);
        let queries = shape.queries(block);
        let mut blocked = Scratch::new(queries.1 * shape.channels.next_multiple_of(BLOCK));
        let mut scores = Scratch::new(queries.1 * shape.padded_pixels());
        let mut weights = Scratch::new(queries.1 * shape.padded_pixels());
        let mut products = Scratch::new(queries.1 * PANEL);
        // SAFETY: the level is available, the lengths were checked, each task has its own queries.
        unsafe {
            let kernel = Attend {
                shape,
                q,
                image,
                queries,
                keys: keys.get().add(image * panels_len),
                values: values.get().add(image * panels_len),
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

/// The gradients of [`attention`]; the softmax is computed again.
///
/// # Shapes
/// All `[N, pixels, channels]`; dq, dk and dv are overwritten.
///
/// # Panics
/// If a length does not fit.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward<'a>(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    dq: impl Into<Destination<'a>>,
    dk: impl Into<Destination<'a>>,
    dv: impl Into<Destination<'a>>,
) {
    let (dq, dk, dv) = (dq.into(), dk.into(), dv.into());
    let _timed = Timed::start("attention_backward", shape.resolution());
    assert_eq!(q.len(), shape.elements(), "length of q");
    assert_eq!(k.len(), shape.elements(), "length of k");
    assert_eq!(v.len(), shape.elements(), "length of v");
    assert_eq!(dout.len(), shape.elements(), "length of dout");
    assert_eq!(dq.len(), shape.elements(), "length of dq");
    assert_eq!(dk.len(), shape.elements(), "length of dk");
    assert_eq!(dv.len(), shape.elements(), "length of dv");
    if !dq.is_empty() {
        backward(shape, q, k, v, dout, [dq, dk, dv]);
    }
}

/// [`attention_backward`], of which there is something.
fn backward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    mut gradients: [Destination<'_>; 3],
) {
    let level = simd_level();
    let weights_len = shape.pixels * shape.padded_pixels();
    let at_once = (KEPT_WEIGHTS / weights_len).clamp(1, shape.n);
    let (panels_len, blocked_len) = (shape.panels_len(), shape.blocked_len());
    let same = std::ptr::eq(k, v);
    // Per image: keys and values transposed and keys in panels, queries and dout in blocked layout,
    // weights and gradients of the scores in blocked layout.
    let image_len = 3 * panels_len + 2 * blocked_len + 2 * weights_len;
    let mut memory = Scratch::new(at_once * image_len);
    let memory = Shared::new(memory.as_mut_ptr());
    let [output_q, output_k, output_v] =
        gradients.each_mut().map(|d| Output::new(d, shape.channels, &Epilogue::default()));
    for first_image in (0..shape.n).step_by(at_once) {
        let n_images = at_once.min(shape.n - first_image);
        // SAFETY: there is room for this many images.
        let of_image = |i: usize| unsafe {
            let keys_transposed = memory.get().add(i * image_len);
            let keys = keys_transposed.add(panels_len);
            let values_transposed =
                if same { keys_transposed } else { keys_transposed.add(2 * panels_len) };
            let queries = keys_transposed.add(3 * panels_len);
            let dout = queries.add(blocked_len);
            let weights = dout.add(blocked_len);
            let dscores = weights.add(weights_len);
            Image { keys_transposed, values_transposed, keys, queries, dout, weights, dscores }
        };
        for_each_task(n_images, |i| {
            let (image, to) = (first_image + i, of_image(i));
            // SAFETY: the level is available, the lengths were checked, each task has its own
            // image.
            unsafe {
                dispatch(level, PackTransposed { shape, from: k, image, to: to.keys_transposed });
                if !same {
                    let to = to.values_transposed;
                    dispatch(level, PackTransposed { shape, from: v, image, to });
                }
                dispatch(level, Pack { shape, from: k, image, to: to.keys });
                let pixels = (0, shape.pixels);
                dispatch(level, Block { shape, from: q, image, pixels, to: to.queries });
                dispatch(level, Block { shape, from: dout, image, pixels, to: to.dout });
            }
        });
        let blocks = shape.query_blocks();
        for_each_task(n_images * blocks, |task| {
            let (i, block) = (task / blocks, task % blocks);
            let queries = shape.queries(block);
            let mut scores = Scratch::new(queries.1 * shape.padded_pixels());
            let mut dweights = Scratch::new(queries.1 * shape.padded_pixels());
            let mut products = Scratch::new(queries.1 * PANEL);
            let kernel = QueryGradient {
                shape,
                image: first_image + i,
                memory: of_image(i),
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
        for_each_task(n_images * key_blocks, |task| {
            let (i, block) = (task / key_blocks, task % key_blocks);
            let mut sums = Scratch::new(BLOCK * shape.channels.next_multiple_of(BLOCK));
            let kernel = KeyGradient {
                shape,
                image: first_image + i,
                memory: of_image(i),
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

/// One image's `[pixels, channels]` in panels of channels.
struct Pack<'a> {
    shape: AttentionShape,
    from: &'a [f32],
    image: usize,
    to: *mut f32,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, .. } = self.shape;
        for panel in 0..channels.div_ceil(PANEL) {
            // SAFETY: the image exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.image * pixels * channels);
                let to = self.to.add(panel * pixels * PANEL);
                pack_panel::<S>(to, from, channels, pixels, panel * PANEL, channels);
            }
        }
    }
}

/// The transpose of one image's `[pixels, channels]`, in panels of pixels.
struct PackTransposed<'a> {
    shape: AttentionShape,
    from: &'a [f32],
    image: usize,
    to: *mut f32,
}

impl Kernel for PackTransposed<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, .. } = self.shape;
        for panel in 0..pixels.div_ceil(PANEL) {
            // SAFETY: the image exists, and there is room for the panels.
            unsafe {
                let from = self.from.as_ptr().add(self.image * pixels * channels);
                let to = self.to.add(panel * channels * PANEL);
                pack_panel_transposed::<S>(to, from, channels, channels, panel * PANEL, pixels);
            }
        }
    }
}

/// Pixels (first, number) of one image in blocked layout.
struct Block<'a> {
    shape: AttentionShape,
    from: &'a [f32],
    image: usize,
    pixels: (usize, usize),
    to: *mut f32,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let source = Source::new(self.from, self.shape.channels);
        let (first, number) = self.pixels;
        let first = self.image * self.shape.pixels + first;
        let to = Rows { to: self.to, row_stride: BLOCK, block_stride: number * BLOCK };
        let channels = (0, self.shape.channels);
        // SAFETY: the pixels exist, and there is room for them.
        unsafe { copy_source::<S, Identity>(&source, channels, self.image, first, 1, number, to) };
    }
}

/// Scores of some queries (blocked) against all keys: `[query][padded pixels]`.
///
/// # Safety
/// S is available, and everything is as large as the shape asks for.
#[inline(always)]
unsafe fn products_with_all<S: Simd>(
    shape: AttentionShape,
    n_queries: usize,
    queries: *const f32,
    block_stride: usize,
    keys_transposed: *const f32,
    to: *mut f32,
) {
    for panel in 0..shape.pixels.div_ceil(PANEL) {
        // SAFETY: the caller's promise.
        unsafe {
            multiply::<S>(
                n_queries,
                shape.channels,
                PANEL,
                queries,
                block_stride,
                keys_transposed.add(panel * shape.channels * PANEL),
                to.add(panel * PANEL),
                shape.padded_pixels(),
                false,
            );
        }
    }
}

/// exp(scale · (score − highest)) of one row, into blocked layout; returns the sum.
///
/// # Safety
/// S is available; `scores` has `n` values, and `to` room for them in blocks.
#[inline(always)]
unsafe fn exponentials<S: Simd>(
    n: usize,
    scale: f32,
    scores: *const f32,
    to: *mut f32,
    block_stride: usize,
) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        // A negative scale turns the order round.
        let sign = S::splat(scale.signum());
        let mut highest = f32::NEG_INFINITY;
        let mut high = S::splat(f32::NEG_INFINITY);
        let whole = n / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            high = S::max(high, S::mul(sign, S::load(scores.add(i))));
        }
        for i in whole..n {
            highest = highest.max(scale.signum() * *scores.add(i));
        }
        highest = highest.max(S::greatest(high)) * scale.signum();
        let (factor, highest) = (S::splat(scale), S::splat(highest));
        let mut sum = S::splat(0.0);
        for i in (0..n).step_by(S::LANES) {
            let lanes = (n - i).min(S::LANES);
            let difference = S::sub(S::load_part(scores.add(i), lanes), highest);
            let weight = exp::<S>(S::mul(difference, factor));
            let place = to.add(i / BLOCK * block_stride + i % BLOCK);
            if lanes == S::LANES {
                S::store(place, weight);
                sum = S::add(sum, weight);
            } else {
                S::store_part(place, lanes, weight);
                sum = S::add(sum, S::load_part(place, lanes));
            }
        }
        S::sum(sum)
    }
}

/// Writes `rows` rows of one panel of products, each times its factor.
///
/// # Safety
/// S is available; everything is as large as the shape asks for.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn write_rows<S: Simd>(
    output: &Output<'_>,
    first_pixel: usize,
    rows: usize,
    channel: usize,
    products: *const f32,
    stride: usize,
    width: usize,
    factors: Option<&[f32; QUERIES]>,
) {
    for row in 0..rows {
        let factor = factors.map_or(1.0, |factors| factors[row]);
        for column in (0..width).step_by(S::LANES) {
            let lanes = (width - column).min(S::LANES);
            // SAFETY: the caller's promise.
            unsafe {
                let product = S::load(products.add(row * stride + column));
                let value = S::mul(product, S::splat(factor));
                output.write::<S>(first_pixel + row, channel + column, lanes, value);
            }
        }
    }
}

/// The forward pass for a block of queries.
struct Attend<'a> {
    shape: AttentionShape,
    q: &'a [f32],
    image: usize,
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
        let AttentionShape { pixels, channels, scale, .. } = self.shape;
        let (first, n_queries) = self.queries;
        let block_stride = n_queries * BLOCK;
        // SAFETY: the caller of `dispatch` promises room.
        unsafe {
            let (shape, image) = (self.shape, self.image);
            let block =
                Block { shape, from: self.q, image, pixels: self.queries, to: self.blocked };
            block.run::<S>();
            let scores = self.scores;
            products_with_all::<S>(shape, n_queries, self.blocked, block_stride, self.keys, scores);
            let mut factors = [0.0; QUERIES];
            for (row, factor) in factors.iter_mut().enumerate().take(n_queries) {
                let scores = scores.add(row * shape.padded_pixels());
                let to = self.weights.add(row * BLOCK);
                *factor = 1.0 / exponentials::<S>(pixels, scale, scores, to, block_stride);
            }
            for panel in 0..channels.div_ceil(PANEL) {
                let width = (channels - panel * PANEL).min(PANEL);
                multiply::<S>(
                    n_queries,
                    pixels,
                    width,
                    self.weights,
                    block_stride,
                    self.values.add(panel * pixels * PANEL),
                    self.products,
                    PANEL,
                    false,
                );
                write_rows::<S>(
                    self.output,
                    image * pixels + first,
                    n_queries,
                    panel * PANEL,
                    self.products,
                    PANEL,
                    width,
                    Some(&factors),
                );
            }
        }
    }
}

/// What the backward pass keeps of an image.
#[derive(Clone, Copy)]
struct Image {
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
    image: usize,
    memory: Image,
    queries: (usize, usize),
    scores: *mut f32,
    dweights: *mut f32,
    products: *mut f32,
    output: &'a Output<'a>,
}

impl Kernel for QueryGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, scale, .. } = self.shape;
        let (first, n_queries) = self.queries;
        let (memory, shape, padded) = (self.memory, self.shape, self.shape.padded_pixels());
        let block_stride = pixels * BLOCK;
        // SAFETY: the caller of `dispatch` promises room.
        unsafe {
            let (queries, dout) =
                (memory.queries.add(first * BLOCK), memory.dout.add(first * BLOCK));
            let (keys, values) = (memory.keys_transposed, memory.values_transposed);
            products_with_all::<S>(shape, n_queries, queries, block_stride, keys, self.scores);
            products_with_all::<S>(shape, n_queries, dout, block_stride, values, self.dweights);
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
                multiply::<S>(
                    n_queries,
                    pixels,
                    width,
                    memory.dscores.add(first * BLOCK),
                    block_stride,
                    memory.keys.add(panel * pixels * PANEL),
                    self.products,
                    PANEL,
                    false,
                );
                let pixel = self.image * pixels + first;
                let (output, channel) = (self.output, panel * PANEL);
                let products = self.products;
                write_rows::<S>(output, pixel, n_queries, channel, products, PANEL, width, None);
            }
        }
    }
}

/// dk and dv for a block of keys.
struct KeyGradient<'a> {
    shape: AttentionShape,
    image: usize,
    memory: Image,
    block: usize,
    sums: *mut f32,
    output_k: &'a Output<'a>,
    output_v: &'a Output<'a>,
}

impl Kernel for KeyGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let AttentionShape { pixels, channels, .. } = self.shape;
        let padded = channels.next_multiple_of(BLOCK);
        let (memory, stride) = (self.memory, pixels * BLOCK);
        let rows = BLOCK.min(pixels - self.block * BLOCK);
        let pixel = self.image * pixels + self.block * BLOCK;
        let sums = self.sums;
        for (left, right, output) in [
            (memory.weights, memory.dout, self.output_v),
            (memory.dscores, memory.queries, self.output_k),
        ] {
            // SAFETY: the caller of `dispatch` promises room.
            unsafe {
                let left = left.add(self.block * stride);
                multiply_transposed::<S>(
                    pixels, BLOCK, padded, left, stride, right, stride, sums, padded, false,
                );
                write_rows::<S>(output, pixel, rows, 0, sums, padded, channels, None);
            }
        }
    }
}
