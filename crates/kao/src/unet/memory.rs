//! How much memory a network takes: for sampling, and for a training step.
//!
//! Everything follows from the list of layers, so a network is judged before anything is allocated.
//! These are estimates of what is needed at least: what they refuse cannot run.

use super::config::UNetConfig;
use super::layers::{Attention, Layer, LayerId, LayerKind, Layers, Resolution, Skip, StageKind};

/// Bytes of a value.
const F32: u64 = 4;

/// Pixels of a pass on the CPU: 16 images of 64×64. More at a time gain nothing.
const CPU_PIXELS: usize = 16 * 64 * 64;

impl UNetConfig {
    /// The images that pass through the network together on the CPU, however many are asked for: the
    /// CPU gains nothing from more, but the memory for feature maps grows.
    pub fn images_at_once(&self) -> usize {
        let [_, h, w] = self.patched_size();
        (CPU_PIXELS / h.saturating_mul(w).max(1)).max(1)
    }

    /// Bytes of the weights.
    pub fn weight_bytes(&self) -> u64 {
        (self.parameter_count() as u64).saturating_mul(F32)
    }

    /// Bytes of `n` images on the host.
    pub fn image_bytes(&self, n: usize) -> u64 {
        bytes(self.image_size.iter().fold(n, |values, &side| values.saturating_mul(side)))
    }

    /// Bytes that sampling takes on the CPU besides the finished images, `batch_size` images at a
    /// time: the weights as they are and as the kernels want them, the feature maps of a pass, and the
    /// states of the batch.
    pub fn sampling_bytes(&self, batch_size: usize) -> u64 {
        // The state, the next one, the prediction, and the predicted images of two steps.
        const STATES: u64 = 5;
        let together = batch_size.min(self.images_at_once());
        let layers = Layers::new(self);
        let maps = bytes(layers.sampling_values().saturating_mul(together));
        let prepared = bytes(layers.prepared_values(together));
        let states = self.image_bytes(batch_size).saturating_mul(STATES);
        let all = [self.weight_bytes(), prepared, maps, states];
        all.into_iter().fold(0, u64::saturating_add)
    }

    /// Bytes of a training step of `batch_size` images, of which `micro_batch_size` pass through the
    /// network at a time: the weights with their gradients, moments and average, what a pass saves
    /// for the backward pass (less with gradient `checkpointing`), and the pictures.
    pub fn training_bytes(
        &self,
        batch_size: usize,
        micro_batch_size: usize,
        checkpointing: bool,
    ) -> u64 {
        // The weights, two moments, and the average.
        const COPIES_OF_WEIGHTS: u64 = 4;
        let saved = Layers::new(self).training_values(checkpointing);
        let saved = bytes(saved.saturating_mul(micro_batch_size));
        // The gradients of the weights grow while what was saved is freed.
        let step = saved.max(self.weight_bytes());
        let state = self.weight_bytes().saturating_mul(COPIES_OF_WEIGHTS);
        [state, step, self.image_bytes(batch_size)].into_iter().fold(0, u64::saturating_add)
    }
}

/// The images of a pass from which on only small weights are prepared.
const MANY_IMAGES: usize = 16;

/// The most values of a prepared 3×3 convolution that are small. With many images, what preparing
/// larger ones saves is about what reading them from memory costs (1 % of the 25M-parameter network
/// at 16 images), and they would take most of the memory.
const SMALL_WEIGHTS: usize = 1_200_000;

/// The most values of prepared weights, a gibibyte. A network that would need more, such as one of 100
/// million parameters, has only small ones prepared.
const MAX_PREPARED: usize = 1 << 28;

impl Layer {
    /// Whether the weights of this 3×3 convolution at stride 1 are small once they are prepared.
    fn is_small(&self) -> bool {
        let phases = match self.kind {
            LayerKind::Conv3x3(Resolution::Upsampled) => 4,
            _ => 1,
        };
        let n_values =
            [36, phases, self.c_in, self.c_out].into_iter().fold(1, usize::saturating_mul);
        n_values <= SMALL_WEIGHTS
    }

    /// Values of the weights as the kernels multiply with them.
    fn prepared_values(&self) -> usize {
        let pairs = self.c_in.saturating_mul(self.c_out);
        match self.kind {
            LayerKind::GroupNorm => 0,
            LayerKind::Linear | LayerKind::Conv1x1 => pairs,
            LayerKind::Conv3x3(Resolution::Stride2(_)) => pairs.saturating_mul(9),
            // Behind an upsampling 25 of 36 planes are left in each of four phases.
            LayerKind::Conv3x3(Resolution::Upsampled) => pairs.saturating_mul(100),
            LayerKind::Conv3x3(Resolution::SameSize) => pairs.saturating_mul(36),
        }
    }

    /// Whether this is a 3×3 convolution at stride 1.
    fn is_conv3x3(&self) -> bool {
        matches!(self.kind, LayerKind::Conv3x3(Resolution::SameSize | Resolution::Upsampled))
    }
}

fn bytes(n_values: usize) -> u64 {
    (n_values as u64).saturating_mul(F32)
}

impl Layers {
    /// Whether the weights of large 3×3 convolutions at stride 1 are kept as the kernels multiply with
    /// them, for passes of so many images. Those of small ones always are.
    fn prepares_large(&self, n_images: usize) -> bool {
        let all = self.list.iter().map(Layer::prepared_values);
        n_images < MANY_IMAGES && all.fold(0, usize::saturating_add) <= MAX_PREPARED
    }

    /// Whether the weights of the 3×3 convolution `id` at stride 1 are kept so.
    pub(super) fn is_prepared(&self, id: LayerId, n_images: usize) -> bool {
        self.get(id).is_small() || self.prepares_large(n_images)
    }

    /// Values of the weights as the kernels multiply with them, for passes of `n_images`.
    fn prepared_values(&self, n_images: usize) -> usize {
        let prepares_large = self.prepares_large(n_images);
        let is_kept = |layer: &&Layer| !layer.is_conv3x3() || prepares_large || layer.is_small();
        let kept = self.list.iter().filter(is_kept).map(Layer::prepared_values);
        kept.fold(0, usize::saturating_add)
    }

    /// Values of feature maps that are in memory together at the peak of a forward pass without
    /// gradients, for one image: what skip connections hold back, and what one stage works with.
    pub fn sampling_values(&self) -> usize {
        let size = |layer: &Layer| layer.pixels.saturating_mul(layer.c_out);
        let head = self.get(self.head);
        let mut skips = vec![size(head)];
        let mut held = size(head);
        // The input of the next stage where no skip connection holds it anyway.
        let mut input = 0;
        let mut peak = held + head.pixels * head.c_in;
        for stage in &self.stages {
            let popped = match stage.skip {
                Skip::Pop => skips.pop().unwrap_or(0),
                Skip::Push | Skip::None => 0,
            };
            let (output, within) = match &stage.kind {
                StageKind::Resample(conv) => (size(self.get(*conv)), 0),
                // The output of the first convolution; then an attention's input, queries and
                // weighted values beside its output, and with several heads keys and values.
                StageKind::Block(block) => {
                    let output = size(self.get(block.conv1));
                    let within = match &block.attention {
                        None => 1,
                        Some(Attention { heads: 1, .. }) => 3,
                        Some(_) => 5,
                    };
                    (output, within * output)
                }
            };
            peak = peak.max(held.saturating_add(input + within + output));
            held -= popped;
            input = output;
            if stage.skip == Skip::Push {
                skips.push(output);
                held += output;
                input = 0;
            }
        }
        let tail = self.get(self.tail);
        peak = peak.max(held + input + size(tail));
        if let Some(detail) = &self.detail {
            let conv = self.get(detail.conv1);
            peak = peak.max(conv.pixels * (conv.c_in + 2 * conv.c_out));
        }
        peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_batch_passes_in_parts() {
        let unet = UNetConfig::default();
        assert_eq!(unet.images_at_once(), 16);
        let but_states = |n| unet.sampling_bytes(n) - 5 * unet.image_bytes(n);
        let map = bytes(Layers::new(&unet).sampling_values());
        assert_eq!(but_states(12) - but_states(5), 7 * map);
        assert_eq!(but_states(1000), but_states(16));
        // In small passes all weights are prepared, which takes more than the feature maps.
        assert!(but_states(1) > 4 * unet.weight_bytes());
        assert!(but_states(16) < but_states(15));
        assert_eq!(unet.image_bytes(2), 2 * 3 * 64 * 64 * 4);
        assert_eq!(unet.image_bytes(usize::MAX), u64::MAX);
    }

    #[test]
    fn a_large_network_stays_within_reason() {
        // google/ddpm-celebahq-256, 113.7 million parameters.
        let unet = UNetConfig {
            image_size: [3, 256, 256],
            ch: 128,
            ch_mult: vec![1, 1, 2, 2, 4, 4],
            attn: vec![4],
            activation: crate::unet::Activation::Silu,
            downsample_padding: 0,
            norm_eps: 1e-6,
            ..UNetConfig::default()
        };
        assert_eq!((unet.parameter_count() - 128_000) / 100_000, 1136);
        // Weights, and less than as much again.
        assert!(unet.sampling_bytes(1) < 2 * unet.weight_bytes(), "{}", unet.sampling_bytes(1));
        let layers = Layers::new(&unet);
        assert!(
            !layers.prepares_large(1) && Layers::new(&UNetConfig::default()).prepares_large(15)
        );
    }

    #[test]
    fn attention_counts() {
        let without = UNetConfig { attn: vec![], ch_mult: vec![1, 1], ..UNetConfig::default() };
        let with = UNetConfig { attn: vec![0], ..without.clone() };
        let values = |unet: &UNetConfig| Layers::new(unet).sampling_values();
        // Queries and weighted values at full resolution.
        assert!(values(&with) > values(&without), "{} {}", values(&with), values(&without));
        assert!(with.training_bytes(8, 8, false) > without.training_bytes(8, 8, false));
    }

    #[test]
    fn the_feature_maps_of_the_original_by_hand() {
        // At 64×64 there are 64 channels. At the start of the last level on the way up, which is
        // the widest place: three skips of 64 channels, the input and its output, what lies between
        // the convolutions of the block.
        let values = Layers::new(&UNetConfig::default()).sampling_values();
        let map = 64 * 64 * 64;
        assert!((5 * map..9 * map).contains(&values), "{} maps", values as f64 / map as f64);
    }
}
