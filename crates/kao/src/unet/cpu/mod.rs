//! The engine of the CPU: the forward pass by the kernels of `kao-kernels`, and its gradients.
//!
//! For sampling, [`CpuEngine`] runs the operations of the forward pass and frees every feature map
//! with its last reader. For training it records them as well: each operation appends a
//! [`Recorded`] with its inputs and what its backward pass needs. [`CpuEngine::backward`] takes
//! that list from the end to the start. An operation takes the gradient of its output, hands the
//! gradients of its parameters to the caller, and adds those of its inputs to what other readers of
//! the same input have left there; then everything it saved is freed.
//!
//! One file per operation holds its forward and its backward pass, side by side.

mod attention;
mod convolution;
mod detail;
mod gradients;
mod linear;
mod multi_head;
mod prepared;
mod residual_block;

pub(crate) use gradients::add as add_values;
pub(super) use prepared::Prepared;

use super::layers::{Attention, Layer, LayerId, ResidualBlock};
use super::operations::{BlockInput, Inputs, Operations, forward};
use super::patches::{from_map, to_map};
use super::{GradientConfig, NoisyImages, UNet};
use crate::error::Result;
use crate::images::Images;
use gradients::Gradients;
use kao_kernels::{Dropout, GroupNorm, GroupNormStats, Pixels, Source};
use std::sync::Arc;

/// The prediction for a batch, `[N, C, H, W]`, with weights that were prepared for the kernels.
pub(super) fn predict(network: &UNet, prepared: &Prepared, images: NoisyImages<'_>) -> Images {
    let patch_size = network.config().output_patch_size();
    on_the_pool(|| {
        let mut engine = CpuEngine { network, prepared: Some(prepared), recording: None };
        let inputs = engine.inputs(images);
        let y = forward(&mut engine, network.layers(), inputs, &mut network.dropout_masks(None));
        from_map(&y.values, patch_size, images.x_t.shape())
    })
}

/// See [`UNet::gradients`].
pub(super) fn gradients(
    network: &UNet,
    images: NoisyImages<'_>,
    config: GradientConfig,
    loss_gradient: &mut (dyn FnMut(&Images) -> Result<Images> + Send),
    sink: &mut (dyn FnMut(usize, Vec<f32>) + Send),
) -> Result<()> {
    let patch_size = network.config().output_patch_size();
    on_the_pool(|| {
        let recording = Recording { checkpointing: config.checkpointing, ..Recording::default() };
        let mut engine = CpuEngine { network, prepared: None, recording: Some(recording) };
        let inputs = engine.inputs(images);
        let masks = &mut network.dropout_masks(config.dropout_seed);
        let y = forward(&mut engine, network.layers(), inputs, masks);
        let prediction = from_map(&y.values, patch_size, images.x_t.shape());
        let dy = loss_gradient(&prediction)?;
        drop(prediction);
        engine.backward(&y, to_map(&dy, patch_size), sink);
        Ok(())
    })
}

/// Calls `f` on a thread of rayon's pool. From outside, each of the many parallel loops of an
/// operation would put this thread to sleep and wake another.
fn on_the_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

/// A feature map `[N, H, W, C]`, or a matrix `[N, C]` as images of one pixel. A clone shares the
/// values.
#[derive(Clone, Debug)]
struct Value {
    values: Arc<Vec<f32>>,
    pixels: Pixels,
    channels: usize,
    /// Where its gradient is gathered, if one is wanted.
    slot: Option<usize>,
}

impl Value {
    fn source(&self) -> Source<'_> {
        Source::new(&self.values, self.channels)
    }
}

/// Runs the operations, and records them where gradients are wanted.
struct CpuEngine<'a> {
    network: &'a UNet,
    /// Weights as the kernels multiply with them, where many passes share them.
    prepared: Option<&'a Prepared>,
    recording: Option<Recording>,
}

/// The operations so far.
#[derive(Default)]
struct Recording {
    operations: Vec<Recorded>,
    /// Values that have a gradient.
    n_slots: usize,
    /// Saves only the inputs of blocks.
    checkpointing: bool,
}

/// An operation that was computed, with what its backward pass needs.
enum Recorded {
    Linear(linear::RecordedLinear),
    Activation(linear::RecordedActivation),
    Convolution(convolution::RecordedConvolution),
    ResidualBlock(residual_block::RecordedBlock),
    Attention(attention::RecordedAttention),
    MultiHead(multi_head::RecordedMultiHead),
    Sum(detail::RecordedSum),
    Pixels(detail::RecordedPixels),
    FirstChannels(detail::RecordedFirstChannels),
}

impl<'a> CpuEngine<'a> {
    fn inputs(&self, images: NoisyImages<'_>) -> Inputs<Self> {
        let NoisyImages { x_t, timesteps, .. } = images;
        let config = self.network.config();
        let [channels, h, w] = config.patched_size();
        let x = Value {
            values: Arc::new(self.network.input_map(x_t)),
            pixels: Pixels::new(x_t.len(), h, w),
            channels,
            slot: None,
        };
        let rows = |values, channels| Value {
            values: Arc::new(values),
            pixels: Pixels::rows(timesteps.len()),
            channels,
            slot: None,
        };
        let time = rows(self.network.time_rows(timesteps), config.first_width());
        let tags = self.network.tag_rows(images).map(|values| rows(values, config.n_tags));
        Inputs { x, time, tags }
    }

    /// A value that an operation has computed.
    fn value(&mut self, values: Vec<f32>, pixels: Pixels, channels: usize) -> Value {
        let slot = self.recording.as_mut().map(|recording| {
            recording.n_slots += 1;
            recording.n_slots - 1
        });
        Value { values: Arc::new(values), pixels, channels, slot }
    }

    fn record(&mut self, operation: impl FnOnce() -> Recorded) {
        if let Some(recording) = &mut self.recording {
            recording.operations.push(operation());
        }
    }

    /// Whether an operation has to save what its backward pass needs.
    fn saves(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| !recording.checkpointing)
    }

    /// Carries the gradient `dy` of `y` back through everything that was recorded.
    fn backward(self, y: &Value, dy: Vec<f32>, sink: &mut dyn FnMut(usize, Vec<f32>)) {
        let Some(Recording { operations, n_slots, .. }) = self.recording else { return };
        let mut gradients = Gradients::new(n_slots, sink);
        gradients.add(y, dy);
        let engine = CpuEngine { recording: None, ..self };
        for operation in operations.into_iter().rev() {
            match operation {
                Recorded::Linear(linear) => linear.backward(&engine, &mut gradients),
                Recorded::Activation(activation) => activation.backward(&engine, &mut gradients),
                Recorded::Convolution(conv) => conv.backward(&engine, &mut gradients),
                Recorded::ResidualBlock(block) => block.backward(&engine, &mut gradients),
                Recorded::Attention(attention) => attention.backward(&engine, &mut gradients),
                Recorded::MultiHead(attention) => attention.backward(&engine, &mut gradients),
                Recorded::Sum(sum) => sum.backward(&mut gradients),
                Recorded::Pixels(pixels) => pixels.backward(&engine, &mut gradients),
                Recorded::FirstChannels(sum) => sum.backward(&mut gradients),
            }
        }
    }

    fn layer(&self, id: LayerId) -> &'a Layer {
        self.network.layers().get(id)
    }

    fn weight(&self, id: LayerId) -> &'a [f32] {
        &self.network.values()[id.weight()]
    }

    fn bias(&self, id: LayerId) -> &'a [f32] {
        &self.network.values()[id.bias()]
    }

    fn norm_groups(&self) -> usize {
        self.network.config().norm_groups
    }

    fn activation_kind(&self) -> kao_kernels::Activation {
        self.network.config().activation.into()
    }

    fn norm_stats(&self, pixels: Pixels, source: &Source<'_>) -> GroupNormStats {
        let epsilon = self.network.config().norm_eps as f32;
        kao_kernels::group_norm_stats(pixels, source, self.norm_groups(), epsilon)
    }

    /// The normalization `id` with the statistics of its input, and what follows it.
    fn norm<'s>(
        &self,
        id: LayerId,
        stats: &'s GroupNormStats,
        activation: kao_kernels::Activation,
        dropout: Option<Dropout>,
    ) -> GroupNorm<'s>
    where
        'a: 's,
    {
        GroupNorm {
            groups: self.norm_groups(),
            gamma: self.weight(id),
            beta: self.bias(id),
            per_image: false,
            stats,
            activation,
            dropout,
        }
    }
}

impl Operations for CpuEngine<'_> {
    type Map = Value;
    type Rows = Value;

    fn linear(&mut self, x: &Value, layer: LayerId) -> Value {
        let y = linear::linear(self, x, layer);
        self.record(|| Recorded::Linear(linear::RecordedLinear { x: x.clone(), layer, y: y.slot }));
        y
    }

    fn activation(&mut self, x: Value) -> Value {
        let y = linear::activation(self, &x);
        self.record(|| Recorded::Activation(linear::RecordedActivation { x, y: y.slot }));
        y
    }

    fn add_rows(&mut self, a: Value, b: Value) -> Value {
        let y = detail::sum(self, &a, &b);
        self.record(|| Recorded::Sum(detail::RecordedSum { a, b, y: y.slot }));
        y
    }

    fn conv3x3(&mut self, x: Value, norm: Option<LayerId>, conv: LayerId) -> Value {
        let (y, stats) = convolution::conv3x3(self, &x, norm, conv);
        self.record(|| {
            let y = y.slot;
            Recorded::Convolution(convolution::RecordedConvolution { x, norm, conv, stats, y })
        });
        y
    }

    fn residual_block(
        &mut self,
        input: BlockInput<Value>,
        time: Value,
        block: &ResidualBlock,
        dropout: Option<Dropout>,
    ) -> Value {
        let saves = self.saves();
        let computed = residual_block::compute(self, &input, &time, block, dropout, saves);
        let [_, c_out] = self.network.layers().block_channels(block);
        let y = self.value(computed.y, input.x.pixels, c_out);
        self.record(|| {
            let (block, saved, y) = (block.clone(), computed.saved, y.slot);
            let recorded = residual_block::RecordedBlock { input, time, block, dropout, saved, y };
            Recorded::ResidualBlock(recorded)
        });
        y
    }

    fn attention(&mut self, x: Value, layers: &Attention) -> Value {
        let saves = self.saves();
        if layers.heads > 1 {
            let (values, saved) = multi_head::compute(self, &x, layers, saves);
            let y = self.value(values, x.pixels, x.channels);
            self.record(|| {
                let (layers, y) = (layers.clone(), y.slot);
                Recorded::MultiHead(multi_head::RecordedMultiHead { x, layers, saved, y })
            });
            return y;
        }
        let (values, saved) = attention::compute(self, &x, layers, saves);
        let y = self.value(values, x.pixels, x.channels);
        self.record(|| {
            let (layers, y) = (layers.clone(), y.slot);
            Recorded::Attention(attention::RecordedAttention { x, layers, saved, y })
        });
        y
    }

    fn to_pixels(&mut self, first: Value, second: Value) -> Value {
        let y = detail::to_pixels(self, &first, &second);
        self.record(|| {
            Recorded::Pixels(detail::RecordedPixels { first, y: y.slot, width: y.channels })
        });
        y
    }

    fn add_first_channels(&mut self, y: Value, x: Value) -> Value {
        let sum = detail::add_first_channels(self, &y, &x);
        self.record(|| {
            Recorded::FirstChannels(detail::RecordedFirstChannels { y, x, sum: sum.slot })
        });
        sum
    }
}
