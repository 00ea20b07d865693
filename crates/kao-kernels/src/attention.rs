//! Single-head attention over the pixels of each image.

use crate::reference;

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

    fn elements(&self) -> usize {
        self.n * self.pixels * self.channels
    }
}

/// `out = softmax(scale · q · kᵀ) · v` for each image.
///
/// # Shapes
/// q, k, v, out: `[N, pixels, channels]`.
///
/// # Panics
/// If a length does not fit.
pub fn attention(shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
    assert_eq!(q.len(), shape.elements(), "length of q");
    assert_eq!(k.len(), shape.elements(), "length of k");
    assert_eq!(v.len(), shape.elements(), "length of v");
    assert_eq!(out.len(), shape.elements(), "length of the output");
    reference::attention(shape, q, k, v, out);
}

/// The gradients of [`attention`]; the softmax is computed again.
///
/// # Shapes
/// All `[N, pixels, channels]`; dq, dk and dv are overwritten.
///
/// # Panics
/// If a length does not fit.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    assert_eq!(q.len(), shape.elements(), "length of q");
    assert_eq!(k.len(), shape.elements(), "length of k");
    assert_eq!(v.len(), shape.elements(), "length of v");
    assert_eq!(dout.len(), shape.elements(), "length of dout");
    assert_eq!(dq.len(), shape.elements(), "length of dq");
    assert_eq!(dk.len(), shape.elements(), "length of dk");
    assert_eq!(dv.len(), shape.elements(), "length of dv");
    reference::attention_backward(shape, q, k, v, dout, dq, dk, dv);
}
