//! Attention with its normalization and projections as one operation.
//!
//! Two projections do the work of four, since the one head is as wide as the feature map. With n the
//! normalized input:
//! - The scores (n·Wq + bq)·(n·Wk + bk)ᵀ are (n·Wq·Wkᵀ + bq·Wkᵀ)·nᵀ, but for what is the same for all
//!   keys of a query, which a softmax does not see. So n itself serves as the keys.
//! - The weights P of a query sum to 1, so (P·(n·Wv + bv))·Wp + bp is (P·n)·Wv·Wp + bv·Wp + bp. So n
//!   serves as the values too.
//!
//! The products of the weights are made once where they are prepared, and once a step in training;
//! their gradients are taken back to the four matrices. The keys' bias has none.

use super::bridge::{Operands, Operation, shape, tensor, values};
use super::normalization::{self, NORM_EPSILON};
use burn::backend::flex::FlexTensor;
use kao_kernels::{self as kernels, Activation, AttentionShape, Epilogue, GroupNorm};
use kao_kernels::{GroupNormStats, Pixels, PreparedConv1x1, Sink, Source, Unwritten, Weights};
use rayon::prelude::*;
use std::sync::Arc;

/// Values that a task adds.
const CHUNK: usize = 1 << 14;

/// Operands: x `[N, H, W, C]`; gamma and beta `[C]`; then weight `[C, C]` and bias `[C]` of the
/// projections to q, k and v, and of the one after the attention.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    /// Of the normalization.
    pub(super) norm_groups: usize,
    pub(super) prepared: Option<Arc<PreparedAttention>>,
}

/// Number of operands.
pub(super) const OPERANDS: usize = 11;

/// What the backward pass wants beside the operands.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    stats: GroupNormStats,
    merged: Merged,
    normalized: FlexTensor,
    query: FlexTensor,
    attended: FlexTensor,
}

/// A projection and its bias.
#[derive(Clone, Copy, Debug)]
pub(in crate::unet) struct Projection<'a> {
    /// `[C, C]`.
    pub(in crate::unet) weight: &'a [f32],
    /// `[C]`.
    pub(in crate::unet) bias: &'a [f32],
}

impl Projection<'_> {
    fn width(self) -> usize {
        self.bias.len()
    }

    /// `[C + 1, C]`, the bias last.
    fn stacked(self) -> Vec<f32> {
        [self.weight, self.bias].concat()
    }
}

/// The two projections that do the work of four, each `[C + 1, C]`, the bias last.
#[derive(Clone, Debug)]
struct Merged {
    /// Before the attention: Wq·Wkᵀ and bq·Wkᵀ.
    query: Vec<f32>,
    /// After it: Wv·Wp and bv·Wp + bp.
    output: Vec<f32>,
}

impl Merged {
    fn new([q, k, v, proj]: [Projection<'_>; 4]) -> Self {
        let c = q.width();
        let mut query = Unwritten::new((c + 1) * c);
        kernels::linear_data_grad(c + 1, &q.stacked(), c, k.weight, c, &mut query);
        let mut output = Unwritten::new((c + 1) * c);
        kernels::linear(c + 1, &v.stacked(), c, proj.weight, c, None, &mut output);
        let mut output = output.into_vec();
        for (sum, bias) in output[c * c..].iter_mut().zip(proj.bias) {
            *sum += bias;
        }
        Merged { query: query.into_vec(), output }
    }
}

/// The two projections prepared for the kernels.
#[derive(Clone, Debug)]
pub(in crate::unet) struct PreparedAttention {
    query: PreparedConv1x1,
    query_bias: Vec<f32>,
    output: PreparedConv1x1,
    output_bias: Vec<f32>,
}

impl PreparedAttention {
    /// Of the projections to q, k and v, and the one after the attention.
    pub(in crate::unet) fn new(projections: [Projection<'_>; 4]) -> Self {
        let c = projections[0].width();
        let Merged { query, output } = Merged::new(projections);
        PreparedAttention {
            query: PreparedConv1x1::new(&query[..c * c], c, c),
            query_bias: query[c * c..].to_vec(),
            output: PreparedConv1x1::new(&output[..c * c], c, c),
            output_bias: output[c * c..].to_vec(),
        }
    }
}

/// One of the two, prepared or not.
#[derive(Clone, Copy)]
struct Given<'a> {
    weights: Weights<'a, PreparedConv1x1>,
    bias: &'a [f32],
}

impl<'a> Given<'a> {
    fn plain(stacked: &'a [f32], c: usize) -> Self {
        let (weight, bias) = stacked.split_at(c * c);
        Given { weights: Weights::Plain(weight), bias }
    }

    /// The projection of x, plus the residual.
    fn of(self, pixels: Pixels, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let c = self.bias.len();
        let epilogue = Epilogue { bias: Some(self.bias), image_bias: None, residual };
        let mut y = Unwritten::new(pixels.total() * c);
        kernels::conv1x1(pixels, &Source::new(x, c), self.weights, c, &epilogue, &mut y);
        y.into_vec()
    }
}

fn given(operands: &Operands<OPERANDS>, i: usize) -> &FlexTensor {
    operands[i].as_ref().expect("attention has its operands")
}

fn projections(operands: &Operands<OPERANDS>) -> [Projection<'_>; 4] {
    [3, 5, 7, 9].map(|i| Projection {
        weight: values(given(operands, i)),
        bias: values(given(operands, i + 1)),
    })
}

impl Attention {
    fn norm<'a>(
        &self,
        operands: &'a Operands<OPERANDS>,
        stats: &'a GroupNormStats,
    ) -> GroupNorm<'a> {
        let (gamma, beta) = (given(operands, 1), given(operands, 2));
        normalization::of(self.norm_groups, gamma, beta, stats, Activation::Identity, None)
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
        let mut normalized = Unwritten::new(pixels.total() * c);
        kernels::group_norm(pixels, &source, &self.norm(operands, &stats), &mut normalized);
        let normalized = normalized.into_vec();

        let prepared = self.prepared.as_deref().filter(|_| !keeps);
        let merged = prepared.is_none().then(|| Merged::new(projections(operands)));
        let (before, after) = match (prepared, &merged) {
            (Some(prepared), _) => {
                let PreparedAttention { query, query_bias, output, output_bias } = prepared;
                let before = Given { weights: Weights::Prepared(query), bias: query_bias };
                (before, Given { weights: Weights::Prepared(output), bias: output_bias })
            }
            (None, Some(merged)) => {
                (Given::plain(&merged.query, c), Given::plain(&merged.output, c))
            }
            (None, None) => unreachable!("merged unless prepared"),
        };
        let query = before.of(pixels, &normalized, None);
        let mut attended = Unwritten::new(pixels.total() * c);
        let attention = AttentionShape::new(n, pixels.per_image(), c);
        kernels::attention(attention, &query, &normalized, &normalized, &mut attended);
        let attended = attended.into_vec();
        let y = after.of(pixels, &attended, Some(values(x)));
        let kept = merged.filter(|_| keeps).map(|merged| {
            let [normalized, query, attended] =
                [normalized, query, attended].map(|values| tensor(values, [n, h, w, c]));
            Kept { stats, merged, normalized, query, attended }
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
        let Kept { stats, merged, normalized, query, attended } = kept;
        let [q, k, v, proj] = projections(&operands);

        // The projection after the attention.
        let doutput = stacked_gradient(pixels, values(&attended), values(&dy), c);
        let mut dattended = Unwritten::new(len);
        let sink = Sink::new(&mut dattended, c);
        kernels::conv1x1_data_grad(pixels, values(&dy), c, &merged.output[..c * c], sink);
        let dattended = dattended.into_vec();
        drop(attended);

        let [mut dquery, mut dkeys, mut dvalues] = [(); 3].map(|()| Unwritten::new(len));
        kernels::attention_backward(
            AttentionShape::new(n, pixels.per_image(), c),
            values(&query),
            values(&normalized),
            values(&normalized),
            &dattended,
            &mut dquery,
            &mut dkeys,
            &mut dvalues,
        );
        drop((query, dattended));

        // The one before it; the normalized input was keys and values as well.
        let dquery = dquery.into_vec();
        let dprojection = stacked_gradient(pixels, values(&normalized), &dquery, c);
        let (mut dnormalized, dvalues) = (dkeys.into_vec(), dvalues.into_vec());
        let pairs = dnormalized.par_chunks_mut(CHUNK).zip(dvalues.par_chunks(CHUNK));
        pairs.for_each(|(sums, values)| {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        });
        drop(dvalues);
        let sink = Sink::new(&mut dnormalized, c).accumulating();
        kernels::conv1x1_data_grad(pixels, &dquery, c, &merged.query[..c * c], sink);
        drop(dquery);

        let (mut dgamma, mut dbeta) = (Unwritten::new(c), Unwritten::new(c));
        // The gradient of the way around is dy itself.
        let mut dx = dy;
        kernels::group_norm_backward(
            pixels,
            &Source::new(values(x), c),
            &self.norm(&operands, &stats),
            &dnormalized,
            Sink::new(dx.storage_mut::<f32>(), c).accumulating(),
            &mut dgamma,
            &mut dbeta,
        );

        // From the two projections back to the four.
        let rows = c + 1;
        let [mut dq, mut dv] = [(); 2].map(|()| Unwritten::new(rows * c));
        let [mut dweight_k, mut dweight_proj] = [(); 2].map(|()| Unwritten::new(c * c));
        kernels::linear(rows, &dprojection, c, k.weight, c, None, &mut dq);
        kernels::linear_weight_grad(rows, &dprojection, c, &q.stacked(), c, &mut dweight_k);
        kernels::linear_data_grad(rows, &doutput, c, proj.weight, c, &mut dv);
        kernels::linear_weight_grad(rows, &v.stacked(), c, &doutput, c, &mut dweight_proj);
        let matrix = |values: Vec<f32>| Some(tensor(values, [c, c]));
        let row = |values: Vec<f32>| Some(tensor(values, [c]));
        let unstacked = |mut values: Vec<f32>| {
            let bias = values.split_off(c * c);
            [matrix(values), row(bias)]
        };
        let [[dweight_q, dbias_q], [dweight_v, dbias_v]] =
            [dq.into_vec(), dv.into_vec()].map(unstacked);
        let [_, dbias_proj] = unstacked(doutput);
        [
            Some(dx),
            row(dgamma.into_vec()),
            row(dbeta.into_vec()),
            dweight_q,
            dbias_q,
            matrix(dweight_k.into_vec()),
            row(vec![0.0; c]),
            dweight_v,
            dbias_v,
            matrix(dweight_proj.into_vec()),
            dbias_proj,
        ]
    }
}

/// The gradient of a projection from x to y, `[C + 1, C]`, the bias last.
fn stacked_gradient(pixels: Pixels, x: &[f32], dy: &[f32], c: usize) -> Vec<f32> {
    let mut gradient = vec![0.0; (c + 1) * c];
    let (weight, bias) = gradient.split_at_mut(c * c);
    kernels::conv1x1_weight_grad(pixels, &Source::new(x, c), dy, c, weight);
    kernels::sum_pixels(Pixels::new(1, pixels.total(), 1), dy, c, bias);
    gradient
}
