//! CPU kernels: slices in, slices out.
#![warn(missing_docs)]

mod activation;
mod adam;
mod attention;
mod channels;
mod conv1x1;
mod conv3x3;
mod conv_stride2;
mod gathered;
mod gemm;
mod group_norm;
mod operands;
mod output;
mod parallel;
pub mod reference;
mod scratch;
mod simd;
mod upsample;

pub use activation::{Activation, activation, activation_backward};
pub use adam::{AdamStep, adam_step, ema_update};
pub use attention::{AttentionShape, attention, attention_backward};
pub use channels::{concat_channels, split_channels, sum_pixels};
pub use conv_stride2::{
    PreparedConv3x3Stride2, conv3x3_stride2, conv3x3_stride2_data_grad, conv3x3_stride2_weight_grad,
};
pub use conv1x1::{
    PreparedConv1x1, conv1x1, conv1x1_data_grad, conv1x1_weight_grad, linear, linear_data_grad,
    linear_weight_grad,
};
pub use conv3x3::{PreparedConv3x3, conv3x3, conv3x3_data_grad, conv3x3_weight_grad};
pub use group_norm::{
    Dropout, GroupNorm, GroupNormStats, group_norm, group_norm_backward, group_norm_stats,
};
pub use operands::{Epilogue, Pixels, Prologue, Sink, Source, Weights};
pub use simd::{SimdLevel, simd_level, with_simd_level};
pub use upsample::{upsample_nearest, upsample_nearest_backward};
