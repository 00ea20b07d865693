//! Attention of several heads with its normalization and projections as one operation.
//!
//! The products of projections that `attention` makes use of would be as many matrices as there are
//! heads, each as wide as the feature map. So all four projections are computed here.

use super::attention::{normalized, normalized_backward};
use super::gradients::Gradients;
use super::{CpuEngine, Value};
use crate::unet::layers::{Attention, LayerId};
use kao_kernels::{self as kernels, Epilogue, GroupNormStats};
use kao_kernels::{AttentionGradients, AttentionInput, AttentionShape};
use kao_kernels::{Pixels, Sink, Source, Unwritten};

/// What the backward pass needs beside the input.
pub(super) struct Saved {
    stats: GroupNormStats,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
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
    let project = |id: LayerId, from: &[f32], residual: Option<&[f32]>| {
        let epilogue = Epilogue { residual, ..Epilogue::bias(engine.bias(id)) };
        let mut y = Unwritten::new(pixels.total() * c);
        let source = Source::new(from, c);
        kernels::conv1x1(pixels, &source, engine.matrix(id), c, &epilogue, &mut y);
        y.into_vec()
    };
    let [q, k, v] = [layers.q, layers.k, layers.v].map(|id| project(id, &normalized, None));
    drop(normalized);
    let mut attended = Unwritten::new(pixels.total() * c);
    let input = AttentionInput { q: &q, k: &k, v: &v };
    kernels::attention(shape(x, layers), &input, &mut attended);
    let attended = attended.into_vec();
    let y = project(layers.proj, &attended, Some(&x.values));
    (y, saves.then_some(Saved { stats, q, k, v, attended }))
}

fn shape(x: &Value, layers: &Attention) -> AttentionShape {
    AttentionShape::with_heads(x.pixels.n, x.pixels.per_image(), x.channels, layers.heads)
}

pub(super) struct RecordedMultiHead {
    pub(super) x: Value,
    pub(super) layers: Attention,
    /// `None` where the backward pass computes it again.
    pub(super) saved: Option<Saved>,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedMultiHead {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedMultiHead { x, layers, saved, y } = self;
        let dy = gradients.take(y);
        let saved = saved.or_else(|| compute(engine, &x, &layers, true).1);
        let Saved { stats, q, k, v, attended } = saved.expect("saved or computed again");
        let (pixels, c) = (x.pixels, x.channels);
        let len = x.values.len();

        // The projection after the attention.
        let mut layer_gradients = |id: LayerId, from: &[f32], d: &[f32]| {
            let (mut dweight, mut dbias) = (Unwritten::new(c * c), Unwritten::new(c));
            kernels::conv1x1_weight_grad(pixels, &Source::new(from, c), d, c, &mut dweight);
            kernels::sum_pixels(Pixels::new(1, pixels.total(), 1), d, c, &mut dbias);
            gradients.layer(id, dweight.into_vec(), dbias.into_vec());
        };
        layer_gradients(layers.proj, &attended, &dy);
        drop(attended);
        let mut dattended = Unwritten::new(len);
        let sink = Sink::new(&mut dattended, c);
        kernels::conv1x1_data_grad(pixels, &dy, c, engine.weight(layers.proj), sink);
        let dattended = dattended.into_vec();

        let [mut dq, mut dk, mut dv] = [len; 3].map(Unwritten::new);
        kernels::attention_backward(
            shape(&x, &layers),
            &AttentionInput { q: &q, k: &k, v: &v },
            &dattended,
            AttentionGradients { q: (&mut dq).into(), k: (&mut dk).into(), v: (&mut dv).into() },
        );
        drop((q, k, v, dattended));

        // Those before it. Their input is cheaper to compute again than to save.
        let normalized = normalized(engine, &x, &layers, &stats);
        let mut dnormalized = Unwritten::new(len);
        let dq = dq.into_vec();
        layer_gradients(layers.q, &normalized, &dq);
        let sink = Sink::new(&mut dnormalized, c);
        kernels::conv1x1_data_grad(pixels, &dq, c, engine.weight(layers.q), sink);
        drop(dq);
        let mut dnormalized = dnormalized.into_vec();
        for (id, d) in [(layers.k, dk.into_vec()), (layers.v, dv.into_vec())] {
            layer_gradients(id, &normalized, &d);
            let sink = Sink::new(&mut dnormalized, c).accumulating();
            kernels::conv1x1_data_grad(pixels, &d, c, engine.weight(id), sink);
        }
        drop(normalized);

        normalized_backward(engine, &x, &layers, &stats, [dnormalized, dy], gradients);
    }
}
