//! The operations of the network: the one place where it is decided how they are computed.
//!
//! Blocks call these and nothing else. Feature maps are channels-last, `[N, H, W, C]`. Each
//! operation is as large as fusion pays, up to a whole block. `stock` says in Burn's own operations
//! what they mean, and serves every device; on the CPU `cpu` computes them with Kao's kernels,
//! unless the environment has `KAO_OPS=stock` or the call is inside [`with_stock`].

mod cpu;
mod stock;

use super::config::Activation;
use super::layers::{Conv3x3, GroupNorm, Linear};
use burn::tensor::{Device, Tensor};
pub(super) use cpu::{PreparedAttention, Projection};
pub use kao_kernels::Dropout;
use std::cell::Cell;
use std::sync::{Arc, OnceLock};

/// A feature map, or two that lie side by side along the channels.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Features {
    /// `[N, H, W, C]`.
    Whole(Tensor<4>),
    /// `[N, H, W, C_first]` and `[N, H, W, C_second]`, meaning their concatenation.
    Pair(Tensor<4>, Tensor<4>),
}

impl From<Tensor<4>> for Features {
    fn from(x: Tensor<4>) -> Self {
        Features::Whole(x)
    }
}

impl Features {
    /// As one tensor.
    pub fn joined(self) -> Tensor<4> {
        match self {
            Features::Whole(x) => x,
            Features::Pair(first, second) => Tensor::cat(vec![first, second], 3),
        }
    }

    fn device(&self) -> Device {
        match self {
            Features::Whole(x) | Features::Pair(x, _) => x.device(),
        }
    }
}

/// Normalization over 32 groups, then the activation.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a> {
    /// Scale and shift.
    pub norm: &'a GroupNorm,
    /// Applied after them.
    pub activation: Activation,
}

/// The layers of a residual block.
#[derive(Clone, Copy, Debug)]
pub struct ResidualLayers<'a> {
    /// Before the first convolution, and with the activation.
    pub norm1: &'a GroupNorm,
    /// `C_in` to `C_out`.
    pub conv1: &'a Conv3x3,
    /// Before the second, and with the activation and dropout.
    pub norm2: &'a GroupNorm,
    /// `C_out` to `C_out`.
    pub conv2: &'a Conv3x3,
    /// Around them, where `C_in` is not `C_out`.
    pub shortcut: Option<&'a Linear>,
    /// After both normalizations.
    pub activation: Activation,
}

/// The layers of an attention block.
#[derive(Clone, Copy, Debug)]
pub struct AttentionLayers<'a> {
    /// Before all else.
    pub norm: &'a GroupNorm,
    /// To the queries.
    pub q: &'a Linear,
    /// To the keys.
    pub k: &'a Linear,
    /// To the values.
    pub v: &'a Linear,
    /// After the attention.
    pub proj: &'a Linear,
    /// The projections as the kernels want them.
    pub(super) prepared: Option<&'a Arc<PreparedAttention>>,
}

/// 3×3 convolution, stride 1, padding 1: `[N, H, W, C_in]` to `[N, H, W, C_out]`.
pub fn conv3x3(x: Tensor<4>, prologue: Option<Prologue<'_>>, conv: &Conv3x3) -> Tensor<4> {
    match has_kernels(&x.device()) {
        true => cpu::conv3x3(x, prologue, conv),
        false => stock::conv3x3(x, prologue, conv),
    }
}

/// 3×3 convolution, stride 2, padding 1: `[N, H, W, C]` to `[N, H/2, W/2, C_out]`.
pub fn downsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    match has_kernels(&x.device()) {
        true => cpu::downsample(x, conv),
        false => stock::downsample(x, conv),
    }
}

/// Nearest ×2, then a 3×3 convolution: `[N, H, W, C]` to `[N, 2H, 2W, C_out]`.
pub fn upsample(x: Tensor<4>, conv: &Conv3x3) -> Tensor<4> {
    match has_kernels(&x.device()) {
        true => cpu::upsample(x, conv),
        false => stock::upsample(x, conv),
    }
}

/// conv2(drop(act(norm2(conv1(act(norm1(x))) + `image_bias`)))) + shortcut(x): `[N, H, W, C_in]` to
/// `[N, H, W, C_out]`; `image_bias` `[N, C_out]` is the same for all pixels of an image.
pub fn residual_block(
    x: Features,
    image_bias: Tensor<2>,
    layers: ResidualLayers<'_>,
    dropout: Option<Dropout>,
) -> Tensor<4> {
    match has_kernels(&x.device()) {
        true => cpu::residual_block(x, image_bias, layers, dropout),
        false => stock::residual_block(x, image_bias, layers, dropout),
    }
}

/// x + proj(softmax(q·kᵀ · C^-½)·v) with q, k and v from norm(x), one head over the pixels of each
/// image: `[N, H, W, C]` to the same.
pub fn attention(x: Tensor<4>, layers: AttentionLayers<'_>) -> Tensor<4> {
    match has_kernels(&x.device()) {
        true => cpu::attention(x, layers),
        false => stock::attention(x, layers),
    }
}

/// Fully connected layer: `[N, C_in]` to `[N, C_out]`.
pub fn linear(x: Tensor<2>, layer: &Linear) -> Tensor<2> {
    match has_kernels(&x.device()) {
        true => cpu::linear(x, layer),
        false => stock::linear(x, layer),
    }
}

/// The activation alone.
pub fn activation(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match has_kernels(&x.device()) {
        true => cpu::activate(x, activation),
        false => stock::activate(x, activation),
    }
}

/// Whether what is computed on `device`, here and now, is computed by Kao's kernels.
pub fn has_kernels(device: &Device) -> bool {
    // Equality does not ask about gradients.
    *device == Device::flex() && !stock_is_forced()
}

/// Calls `f`, in which this thread computes with Burn's own operations on the CPU too.
pub fn with_stock<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCES_STOCK.set(self.0);
        }
    }
    let _restore = Restore(FORCES_STOCK.replace(true));
    f()
}

/// Calls `f` on a thread of rayon's pool. From outside, each of the many parallel loops of an
/// operation would put this thread to sleep and wake another.
pub(super) fn on_the_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

thread_local! {
    static FORCES_STOCK: Cell<bool> = const { Cell::new(false) };
}

fn stock_is_forced() -> bool {
    static ENVIRONMENT: OnceLock<bool> = OnceLock::new();
    FORCES_STOCK.get()
        || *ENVIRONMENT.get_or_init(|| std::env::var_os("KAO_OPS").is_some_and(|v| v == "stock"))
}
