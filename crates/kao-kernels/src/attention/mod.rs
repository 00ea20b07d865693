//! Attention over the pixels of each image, with one head or several.
//!
//! The channels of a head lie side by side, so one head of one image, a *unit*, is a matrix with its
//! rows at a stride, and units are computed one by one. Queries are taken in blocks; a block's scores
//! against all keys stay in the cache. The backward pass computes the weights again, keeps them with
//! their gradients for a few units at a time, and sums the gradients of keys and values over the
//! queries in order.

mod backward;
mod forward;
mod pack;
mod rows;

use crate::Destination;
use crate::gemm::{BLOCK, PANEL};
use crate::operands::length;
use crate::profile::Timed;

/// Queries of a task.
const QUERIES: usize = 56;

/// The shape of an attention, and the factor of its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Number of images.
    pub n: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Channels of queries, keys and values, of all heads together.
    pub channels: usize,
    /// Number of heads, which divides the channels. Each has its own of them, side by side.
    pub heads: usize,
    /// What q · kᵀ is multiplied by, usually (channels / heads)^−½.
    pub scale: f32,
}

impl AttentionShape {
    /// One head, with the scale channels^−½.
    pub fn new(n: usize, pixels: usize, channels: usize) -> Self {
        Self::with_heads(n, pixels, channels, 1)
    }

    /// So many heads, with the scale (channels / heads)^−½.
    pub fn with_heads(n: usize, pixels: usize, channels: usize, heads: usize) -> Self {
        let scale = (1.0 / (channels as f64 / heads as f64).sqrt()) as f32;
        Self { n, pixels, channels, heads, scale }
    }

    /// Channels of a head.
    pub(crate) fn width(&self) -> usize {
        self.channels / self.heads
    }

    /// Heads of all images, which are computed one by one.
    fn units(&self) -> usize {
        self.n * self.heads
    }

    /// The first pixel of the image that a unit belongs to, and the first channel of its head.
    fn origin(&self, unit: usize) -> (usize, usize) {
        (unit / self.heads * self.pixels, unit % self.heads * self.width())
    }

    /// Where the first value of a unit lies among queries, keys or values.
    fn first_value(&self, unit: usize) -> usize {
        let (pixel, channel) = self.origin(unit);
        pixel * self.channels + channel
    }

    #[track_caller]
    fn check(&self) {
        let divides = self.heads > 0 && self.channels.is_multiple_of(self.heads);
        assert!(divides, "{} heads of {} channels", self.heads, self.channels);
    }

    /// Height and width, taking the images to be square; one row of pixels where they cannot be.
    fn resolution(&self) -> [usize; 2] {
        let side = self.pixels.isqrt();
        if side * side == self.pixels { [side, side] } else { [1, self.pixels] }
    }

    fn elements(&self) -> usize {
        length([self.n, self.pixels, self.channels])
    }

    /// Blocks of queries of a unit.
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

    /// Length of one unit's keys or values in panels, either way round.
    fn panels_len(&self) -> usize {
        self.padded_pixels() * self.width().next_multiple_of(PANEL)
    }

    /// Length of one unit's queries in blocked layout.
    fn blocked_len(&self) -> usize {
        self.pixels * self.width().next_multiple_of(BLOCK)
    }
}

/// What an attention is taken of, each `[N, pixels, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
}

impl AttentionInput<'_> {
    #[track_caller]
    fn check(&self, shape: AttentionShape) {
        shape.check();
        assert_eq!(self.q.len(), shape.elements(), "length of q");
        assert_eq!(self.k.len(), shape.elements(), "length of k");
        assert_eq!(self.v.len(), shape.elements(), "length of v");
    }
}

/// Where the gradients with respect to an [`AttentionInput`] go, each `[N, pixels, channels]`.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// Of the queries.
    pub q: Destination<'a>,
    /// Of the keys.
    pub k: Destination<'a>,
    /// Of the values.
    pub v: Destination<'a>,
}

/// `out = softmax(scale · q · kᵀ) · v` for each image and head.
///
/// # Shapes
/// q, k, v, out: `[N, pixels, heads · channels of a head]`.
///
/// # Panics
/// If a length does not fit.
pub fn attention<'a>(
    shape: AttentionShape,
    input: &AttentionInput<'_>,
    out: impl Into<Destination<'a>>,
) {
    let out = out.into();
    let _timed = Timed::start("attention", shape.resolution());
    input.check(shape);
    assert_eq!(out.len(), shape.elements(), "length of the output");
    if !out.is_empty() {
        forward::attend(shape, input, out);
    }
}

/// The gradients of [`attention`]; the softmax is computed again.
///
/// # Shapes
/// All `[N, pixels, channels]`; the gradients are overwritten.
///
/// # Panics
/// If a length does not fit.
pub fn attention_backward(
    shape: AttentionShape,
    input: &AttentionInput<'_>,
    dout: &[f32],
    gradients: AttentionGradients<'_>,
) {
    let _timed = Timed::start("attention_backward", shape.resolution());
    input.check(shape);
    assert_eq!(dout.len(), shape.elements(), "length of dout");
    assert_eq!(gradients.q.len(), shape.elements(), "length of dq");
    assert_eq!(gradients.k.len(), shape.elements(), "length of dk");
    assert_eq!(gradients.v.len(), shape.elements(), "length of dv");
    if dout.is_empty() {
        return;
    }
    backward::backward(shape, input, dout, gradients);
}
