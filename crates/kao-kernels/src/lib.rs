//! CPU kernels of a denoising UNet: slices in, slices out, no framework.
//!
//! # What is here
//! | | forward | gradients |
//! |---|---|---|
//! | 3×3 convolution | [`conv3x3()`] | [`conv3x3_data_grad`], [`conv3x3_weight_grad`] |
//! | the same with stride 2 | [`conv3x3_stride2`] | [`conv3x3_stride2_data_grad`], [`conv3x3_stride2_weight_grad`] |
//! | 1×1 convolution, linear layer | [`conv1x1()`], [`linear`] | [`conv1x1_data_grad`], [`conv1x1_weight_grad`], [`linear_data_grad`], [`linear_weight_grad`] |
//! | biases, per-image biases | [`Epilogue`] | [`sum_pixels`] |
//! | group normalization, activation, dropout | [`group_norm_stats`], [`group_norm()`] | [`group_norm_backward`] |
//! | attention over pixels, any number of heads | [`attention()`] | [`attention_backward`] |
//! | nearest ×2 upsampling | [`Source::upsampled`], [`upsample_nearest`] | [`Sink::upsampled`], [`upsample_nearest_backward`] |
//! | concatenation of channels | [`Source::pair`], [`concat_channels`] | [`Sink::pair`], [`split_channels`] |
//! | activations alone | [`activation()`] | [`activation_backward`] |
//! | loops of the evaluation | [`project`], [`squared_distance_below`] | |
//! | optimizer, moving average | [`adam_step`], [`muon_step`], [`ema_update`], [`adam_ema_step`] | |
//!
//! What comes before a convolution is fused into reading its input: a second part of the channels
//! ([`Source::pair`]), normalization and activation ([`Prologue`]), upsampling. So is what comes
//! after into writing its output: bias, time embedding and residual ([`Epilogue`]). The reference
//! implementation of each kernel is in [`mod@reference`]: that is what it means, and what tests compare
//! it with.
//!
//! # Layout
//! f32 throughout. Activations are channels-last, `[N, H, W, C]`; weights of a convolution
//! `[3, 3, C_in, C_out]`, of a 1×1 convolution or a linear layer `[C_in, C_out]`. All shapes are
//! welcome, odd sides and any number of channels; multiples of 16 channels are fastest. Lengths are
//! asserted on entry, and the message names the operand. Outputs are overwritten whole, unless
//! [`Sink::accumulating`] says otherwise, whatever lay there before: so they may be memory that
//! nobody has cleared ([`Unwritten`]), which becomes a vector once a kernel has written it.
//!
//! # Threads and memory
//! Kernels run on rayon's current pool, so the caller chooses with `ThreadPool::install`; with one
//! thread they never leave the calling one. Working memory stays with each thread and is lent again
//! from call to call. The one cache of weights is explicit: whoever calls often with the same weights
//! prepares them ([`PreparedConv3x3`], [`PreparedConv1x1`], [`PreparedConv3x3Stride2`]) and owns the
//! result; [`Weights::Plain`] gives the same bytes.
//!
//! # Determinism
//! - The bytes of one image's result depend neither on the other images of the batch nor on the
//!   number of threads: every output is one chain of operations in an order fixed by the shape of
//!   an image. A kernel may choose its way by the amount of work only among ways that give the
//!   same bytes.
//! - Sums over images (gradients of weights) have an order fixed by the shapes of the call, the batch
//!   size included, whatever the number of threads.
//! - Another [`SimdLevel`] rounds differently.
//!
//! # Instructions
//! Kernels are written once over a small vector trait and compiled for each [`SimdLevel`]: AVX-512,
//! AVX2 with FMA, NEON, and portable Rust. The best level of the machine is chosen at run time; the
//! environment variable `KAO_SIMD` (`avx512`, `avx2`, `neon`, `portable`) asks for another, and
//! [`with_simd_level`] for a stretch of code. A level that the machine lacks is as if it were not
//! asked for.
//!
//! # Accuracy
//! Sums are in f32 along the channels. The 3×3 convolution with stride 1 goes by Winograd's
//! F(4×4, 3×3), with points chosen for accuracy: its error is about twice that of a direct sum in
//! f32 (with 256 channels and random values 1.6·10⁻⁶ root mean square, against 0.9·10⁻⁶). Means and
//! variances, and sums over pixels, end in f64.
//!
//! # Where what may be touched
//! This is the only crate with unsafe code; every block says why it is sound. SIMD intrinsics appear in
//! `simd` only, raw pointers in kernels, and a kernel's public function checks all lengths before.
//! What a [`Destination`] holds is read by nobody before a kernel has promised, after its last task,
//! that all of it is written; a kernel that panics promises nothing. All tests pass under
//! AddressSanitizer, at every level of an x86 machine:
//!
//! ```sh
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --release -p kao-kernels --tests \
//!     --target x86_64-unknown-linux-gnu --target-dir target/sanitizer
//! ```
#![warn(missing_docs)]

mod activation;
mod adam;
mod attention;
mod channels;
mod compare;
mod conv1x1;
mod conv3x3;
mod conv_stride2;
mod destination;
mod gathered;
mod gemm;
mod group_norm;
mod memory;
mod muon;
mod operands;
mod output;
mod parallel;
mod peak;
mod profile;
pub mod reference;
mod scratch;
mod simd;
mod upsample;

pub use activation::{Activation, activation, activation_backward};
pub use adam::{AdamStep, adam_ema_step, adam_step, ema_update};
pub use attention::{
    AttentionGradients, AttentionInput, AttentionShape, attention, attention_backward,
};
pub use channels::{concat_channels, split_channels, sum_pixels};
pub use compare::{project, squared_distance_below};
pub use conv_stride2::{
    PreparedConv3x3Stride2, conv3x3_stride2, conv3x3_stride2_data_grad, conv3x3_stride2_weight_grad,
};
pub use conv1x1::{
    LinearShape, PreparedConv1x1, conv1x1, conv1x1_data_grad, conv1x1_weight_grad, linear,
    linear_data_grad, linear_weight_grad,
};
pub use conv3x3::{PreparedConv3x3, conv3x3, conv3x3_data_grad, conv3x3_weight_grad};
pub use destination::{Destination, Unwritten};
pub use group_norm::{
    AffineGradients, Dropout, FoldedNorm, GroupNorm, GroupNormStats, group_norm,
    group_norm_backward, group_norm_stats,
};
pub use memory::{keep_freed_memory, release_freed_memory};
pub use muon::{MuonStep, muon_step};
pub use operands::{Epilogue, Padding, Pixels, Prologue, Sink, Source, Weights};
pub use peak::peak_gflops;
pub use profile::{KernelTime, profile};
pub use simd::{SimdLevel, simd_level, with_simd_level};
pub use upsample::{upsample_nearest, upsample_nearest_backward};
