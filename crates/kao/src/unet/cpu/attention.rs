//! Attention of one head with its normalization and projections as one operation.
//!
//! Two projections do the work of four, since the one head is as wide as the feature map. With n the
//! normalized input:
//! - The scores (n·Wq + bq)·(n·Wk + bk)ᵀ are (n·Wq·Wkᵀ + bq·Wkᵀ)·nᵀ, but for what is the same for all
//!   keys of a query, which a softmax does not see. So n itself serves as the keys.
//! - The weights P of a query sum to 1, so (P·(n·Wv + bv))·Wp + bp is (P·n)·Wv·Wp + bv·Wp + bp. So n
//!   serves as the values too.
//!
//! The products of the weights are computed once where they are prepared, and once a step in
//! training; their gradients are taken back to the four matrices. The keys' bias has none.

use super::gradients::{Gradients, add};
use super::{CpuEngine, Value};
use crate::unet::UNet;
use crate::unet::layers::{Attention, LayerId};
use kao_kernels::{self as kernels, Activation, AffineGradients, Epilogue, GroupNormStats};
use kao_kernels::{AttentionGradients, AttentionInput, AttentionShape, LinearShape};
use kao_kernels::{Pixels, PreparedConv1x1, Sink, Source, Unwritten, Weights};

/// A projection and its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'a> {
    /// `[C, C]`.
    pub(super) weight: &'a [f32],
    /// `[C]`.
    pub(super) bias: &'a [f32],
}

impl<'a> Projection<'a> {
    pub(super) fn new(network: &'a UNet, id: LayerId) -> Self {
        let values = network.values();
        Projection { weight: &values[id.weight()], bias: &values[id.bias()] }
    }

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
        let shape = LinearShape { rows: c + 1, c_in: c, c_out: c };
        kernels::linear_data_grad(shape, &q.stacked(), k.weight, &mut query);
        let mut output = Unwritten::new((c + 1) * c);
        kernels::linear(shape, &v.stacked(), proj.weight, None, &mut output);
        let mut output = output.into_vec();
        for (sum, bias) in output[c * c..].iter_mut().zip(proj.bias) {
            *sum += bias;
        }
        Merged { query: query.into_vec(), output }
    }
}

/// The two projections prepared for the kernels.
#[derive(Clone, Debug)]
pub(super) struct PreparedAttention {
    query: PreparedConv1x1,
    query_bias: Vec<f32>,
    output: PreparedConv1x1,
    output_bias: Vec<f32>,
}

impl PreparedAttention {
    /// Of the projections to q, k and v, and the one after the attention.
    pub(super) fn new(projections: [Projection<'_>; 4]) -> Self {
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
        let epilogue = Epilogue { residual, ..Epilogue::bias(self.bias) };
        let mut y = Unwritten::new(pixels.total() * c);
        kernels::conv1x1(pixels, &Source::new(x, c), self.weights, c, &epilogue, &mut y);
        y.into_vec()
    }
}

/// What the backward pass needs beside the input.
pub(super) struct Saved {
    stats: GroupNormStats,
    merged: Merged,
    query: Vec<f32>,
    attended: Vec<f32>,
}

/// The values of the output, and what the backward pass needs.
pub(super) fn compute(
    engine: &CpuEngine<'_>,
    x: &Value,
    layers: &Attention,
    saves: bool,
) -> (Vec<f32>, Option<Saved>) {
    let (pixels, c) = (x.pixels, x.channels);
    let stats = engine.norm_stats(pixels, &x.source());
    let normalized = normalized(engine, x, layers, &stats);

    let prepared = engine.prepared_attention(layers);
    let merged = match prepared {
        Some(_) => None,
        None => Some(Merged::new(projections(engine, layers))),
    };
    let (before, after) = match (prepared, &merged) {
        (Some(prepared), _) => {
            let PreparedAttention { query, query_bias, output, output_bias } = prepared;
            let before = Given { weights: Weights::Prepared(query), bias: query_bias };
            (before, Given { weights: Weights::Prepared(output), bias: output_bias })
        }
        (None, Some(merged)) => (Given::plain(&merged.query, c), Given::plain(&merged.output, c)),
        (None, None) => unreachable!("merged unless prepared"),
    };
    let query = before.of(pixels, &normalized, None);
    let mut attended = Unwritten::new(pixels.total() * c);
    let shape = AttentionShape::new(pixels.n, pixels.per_image(), c);
    let input = AttentionInput { q: &query, k: &normalized, v: &normalized };
    kernels::attention(shape, &input, &mut attended);
    let attended = attended.into_vec();
    let y = after.of(pixels, &attended, Some(&x.values));
    let saved = merged.filter(|_| saves).map(|merged| Saved { stats, merged, query, attended });
    (y, saved)
}

fn projections<'a>(engine: &CpuEngine<'a>, layers: &Attention) -> [Projection<'a>; 4] {
    let Attention { q, k, v, proj, .. } = layers;
    [q, k, v, proj].map(|&id| Projection::new(engine.network, id))
}

pub(super) fn normalized(
    engine: &CpuEngine<'_>,
    x: &Value,
    layers: &Attention,
    stats: &GroupNormStats,
) -> Vec<f32> {
    let norm = engine.norm(layers.norm, stats, Activation::Identity, None);
    let mut normalized = Unwritten::new(x.values.len());
    kernels::group_norm(x.pixels, &x.source(), &norm, &mut normalized);
    normalized.into_vec()
}

/// Leaves the gradients of [`normalized`], from that of its result, and of the way around the
/// attention, which is that of the output itself.
pub(super) fn normalized_backward(
    engine: &CpuEngine<'_>,
    x: &Value,
    layers: &Attention,
    stats: &GroupNormStats,
    [dnormalized, dy]: [Vec<f32>; 2],
    gradients: &mut Gradients<'_>,
) {
    let c = x.channels;
    let [mut dgamma, mut dbeta] = [c; 2].map(Unwritten::new);
    let mut dx = dy;
    kernels::group_norm_backward(
        x.pixels,
        &x.source(),
        &engine.norm(layers.norm, stats, Activation::Identity, None),
        &dnormalized,
        Sink::new(&mut dx, c).accumulating(),
        AffineGradients { gamma: (&mut dgamma).into(), beta: (&mut dbeta).into() },
    );
    gradients.add(x, dx);
    gradients.layer(layers.norm, dgamma.into_vec(), dbeta.into_vec());
}

pub(super) struct RecordedAttention {
    pub(super) x: Value,
    pub(super) layers: Attention,
    /// `None` where the backward pass computes it again.
    pub(super) saved: Option<Saved>,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedAttention {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedAttention { x, layers, saved, y } = self;
        let dy = gradients.take(y);
        let saved = saved.or_else(|| compute(engine, &x, &layers, true).1);
        let Saved { stats, merged, query, attended } = saved.expect("saved or computed again");
        let (pixels, c) = (x.pixels, x.channels);
        let len = x.values.len();
        // Cheaper to compute again than to save.
        let normalized = normalized(engine, &x, &layers, &stats);
        let [q, k, v, proj] = projections(engine, &layers);

        // The projection after the attention.
        let doutput = stacked_gradient(pixels, &attended, &dy, c);
        let mut dattended = Unwritten::new(len);
        let sink = Sink::new(&mut dattended, c);
        kernels::conv1x1_data_grad(pixels, &dy, c, &merged.output[..c * c], sink);
        let dattended = dattended.into_vec();
        drop(attended);

        let [mut dquery, mut dkeys, mut dvalues] = [len; 3].map(Unwritten::new);
        kernels::attention_backward(
            AttentionShape::new(pixels.n, pixels.per_image(), c),
            &AttentionInput { q: &query, k: &normalized, v: &normalized },
            &dattended,
            AttentionGradients {
                q: (&mut dquery).into(),
                k: (&mut dkeys).into(),
                v: (&mut dvalues).into(),
            },
        );
        drop((query, dattended));

        // The one before it; the normalized input was keys and values as well.
        let dquery = dquery.into_vec();
        let dprojection = stacked_gradient(pixels, &normalized, &dquery, c);
        let mut dnormalized = dkeys.into_vec();
        add(&mut dnormalized, &dvalues.into_vec());
        let sink = Sink::new(&mut dnormalized, c).accumulating();
        kernels::conv1x1_data_grad(pixels, &dquery, c, &merged.query[..c * c], sink);
        drop((dquery, normalized));

        normalized_backward(engine, &x, &layers, &stats, [dnormalized, dy], gradients);

        // From the two projections back to the four.
        let rows = c + 1;
        let [mut dq, mut dv] = [rows * c; 2].map(Unwritten::new);
        let [mut dweight_k, mut dweight_proj] = [c * c; 2].map(Unwritten::new);
        let shape = LinearShape { rows, c_in: c, c_out: c };
        kernels::linear(shape, &dprojection, k.weight, None, &mut dq);
        kernels::linear_weight_grad(shape, &dprojection, &q.stacked(), &mut dweight_k);
        kernels::linear_data_grad(shape, &doutput, proj.weight, &mut dv);
        kernels::linear_weight_grad(shape, &v.stacked(), &doutput, &mut dweight_proj);
        let unstacked = |mut values: Vec<f32>| {
            let bias = values.split_off(c * c);
            (values, bias)
        };
        for (id, gradient) in [(layers.q, dq.into_vec()), (layers.v, dv.into_vec())] {
            let (weight, bias) = unstacked(gradient);
            gradients.layer(id, weight, bias);
        }
        gradients.layer(layers.k, dweight_k.into_vec(), vec![0.0; c]);
        let (_, dbias_proj) = unstacked(doutput);
        gradients.layer(layers.proj, dweight_proj.into_vec(), dbias_proj);
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
