//! Attention with its normalization and projections as one operation.

use super::bridge::{Operands, Operation, shape, tensor, values};
use super::normalization::{self, NORM_EPSILON};
use crate::unet::layers::PreparedMatrix;
use burn::backend::flex::FlexTensor;
use kao_kernels::{self as kernels, Activation, AttentionShape, Epilogue, GroupNormStats, Pixels};
use kao_kernels::{Sink, Source, Unwritten, Weights, conv1x1};

/// Operands: x `[N, H, W, C]`; gamma and beta `[C]`; then weight `[C, C]` and bias `[C]` of the
/// projections to q, k and v, and of the one after the attention.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    /// Of the normalization.
    pub(super) norm_groups: usize,
    /// Of q, k, v and the last projection.
    pub(super) prepared: [Option<PreparedMatrix>; 4],
}

/// Number of operands.
pub(super) const OPERANDS: usize = 11;

/// What the backward pass wants beside the operands.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    stats: GroupNormStats,
    normalized: FlexTensor,
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    attended: FlexTensor,
}

fn given(operands: &Operands<OPERANDS>, i: usize) -> &FlexTensor {
    operands[i].as_ref().expect("attention has its operands")
}

impl Attention {
    /// Projection `i` of the source, plus the residual.
    fn project(
        &self,
        operands: &Operands<OPERANDS>,
        i: usize,
        pixels: Pixels,
        x: &[f32],
        residual: Option<&[f32]>,
    ) -> Vec<f32> {
        let (weight, bias) = (given(operands, 3 + 2 * i), given(operands, 4 + 2 * i));
        let [c, _] = shape(weight);
        let weights = match &self.prepared[i] {
            Some(prepared) => Weights::Prepared(&**prepared),
            None => Weights::Plain(values(weight)),
        };
        let epilogue = Epilogue { bias: Some(values(bias)), image_bias: None, residual };
        let mut y = Unwritten::new(pixels.total() * c);
        conv1x1(pixels, &Source::new(x, c), weights, c, &epilogue, &mut y);
        y.into_vec()
    }
}

impl Operation<OPERANDS> for Attention {
    type Kept = Kept;

    fn forward(&self, operands: &Operands<OPERANDS>, keeps: bool) -> (FlexTensor, Option<Kept>) {
        let x = given(operands, 0);
        let [n, h, w, c] = shape(x);
        let pixels = Pixels::new(n, h, w);
        let source = Source::new(values(x), c);
        let stats = kernels::group_norm_stats(pixels, &source, self.norm_groups, NORM_EPSILON);
        let (gamma, beta) = (given(operands, 1), given(operands, 2));
        let norm =
            normalization::of(self.norm_groups, gamma, beta, &stats, Activation::Identity, None);
        let mut normalized = Unwritten::new(pixels.total() * c);
        kernels::group_norm(pixels, &source, &norm, &mut normalized);
        let normalized = normalized.into_vec();
        let [q, k, v] = [0, 1, 2].map(|i| self.project(operands, i, pixels, &normalized, None));
        let mut attended = Unwritten::new(pixels.total() * c);
        let attention = AttentionShape::new(n, pixels.per_image(), c);
        kernels::attention(attention, &q, &k, &v, &mut attended);
        let attended = attended.into_vec();
        let y = self.project(operands, 3, pixels, &attended, Some(values(x)));
        let kept = keeps.then(|| {
            let [normalized, q, k, v, attended] =
                [normalized, q, k, v, attended].map(|values| tensor(values, [n, h, w, c]));
            Kept { stats, normalized, q, k, v, attended }
        });
        (tensor(y, [n, h, w, c]), kept)
    }

    fn backward(
        &self,
        operands: Operands<OPERANDS>,
        kept: Kept,
        dy: FlexTensor,
        _wanted: [bool; OPERANDS],
    ) -> Operands<OPERANDS> {
        let x = given(&operands, 0);
        let [n, h, w, c] = shape(x);
        let pixels = Pixels::new(n, h, w);
        let len = pixels.total() * c;
        let Kept { stats, normalized, q, k, v, attended } = kept;
        // Gradients of weight and bias of a projection.
        let parameters = |x: &FlexTensor, dy: &[f32]| {
            let (mut dweight, mut dbias) = (Unwritten::new(c * c), Unwritten::new(c));
            let source = Source::new(values(x), c);
            kernels::conv1x1_weight_grad(pixels, &source, dy, c, &mut dweight);
            kernels::sum_pixels(Pixels::new(1, pixels.total(), 1), dy, c, &mut dbias);
            [Some(tensor(dweight.into_vec(), [c, c])), Some(tensor(dbias.into_vec(), [c]))]
        };
        let weight = |i: usize| values(given(&operands, 3 + 2 * i));

        let [dweight, dbias] = parameters(&attended, values(&dy));
        let mut dattended = Unwritten::new(len);
        let sink = Sink::new(&mut dattended, c);
        kernels::conv1x1_data_grad(pixels, values(&dy), c, weight(3), sink);
        let dattended = dattended.into_vec();
        drop(attended);
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Unwritten::new(len));
        kernels::attention_backward(
            AttentionShape::new(n, pixels.per_image(), c),
            values(&q),
            values(&k),
            values(&v),
            &dattended,
            &mut dq,
            &mut dk,
            &mut dv,
        );
        drop((q, k, v));
        // No longer wanted, so its memory serves.
        let mut dnormalized = dattended;
        let [[dweight_q, dbias_q], [dweight_k, dbias_k], [dweight_v, dbias_v]] =
            [(0, dq), (1, dk), (2, dv)].map(|(i, d)| {
                let d = d.into_vec();
                let sink = Sink::new(&mut dnormalized, c);
                let sink = if i == 0 { sink } else { sink.accumulating() };
                kernels::conv1x1_data_grad(pixels, &d, c, weight(i), sink);
                parameters(&normalized, &d)
            });

        let (gamma, beta) = (given(&operands, 1), given(&operands, 2));
        let norm =
            normalization::of(self.norm_groups, gamma, beta, &stats, Activation::Identity, None);
        let (mut dgamma, mut dbeta) = (Unwritten::new(c), Unwritten::new(c));
        // The gradient of the way around is dy itself.
        let mut dx = dy;
        kernels::group_norm_backward(
            pixels,
            &Source::new(values(x), c),
            &norm,
            &dnormalized,
            Sink::new(dx.storage_mut::<f32>(), c).accumulating(),
            &mut dgamma,
            &mut dbeta,
        );
        [
            Some(dx),
            Some(tensor(dgamma.into_vec(), [c])),
            Some(tensor(dbeta.into_vec(), [c])),
            dweight_q,
            dbias_q,
            dweight_k,
            dbias_k,
            dweight_v,
            dbias_v,
            dweight,
            dbias,
        ]
    }
}
