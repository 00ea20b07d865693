//! A 3×3 convolution, at one of three resolutions, behind a normalization or not.

use super::bridge::{Operands, Operation, shape, tensor, values};
use super::normalization::{self, NORM_EPSILON};
use crate::unet::layers::PreparedConv;
use burn::backend::flex::FlexTensor;
use kao_kernels::{self as kernels, Activation, Epilogue, GroupNormStats, Pixels, Sink, Source};
use kao_kernels::{Unwritten, Weights, conv3x3, conv3x3_stride2};

/// What becomes of the resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Resolution {
    Same,
    /// Stride 2.
    Halved,
    /// Nearest ×2 before the convolution.
    Doubled,
}

/// Operands: x `[N, H, W, C_in]`, weight `[3, 3, C_in, C_out]`, bias `[C_out]`; and gamma and beta
/// `[C_in]` where a normalization comes before the convolution.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    pub(super) resolution: Resolution,
    /// Of the normalization.
    pub(super) norm_groups: usize,
    /// After the normalization.
    pub(super) activation: Activation,
    pub(super) prepared: Option<PreparedConv>,
}

impl Convolution {
    /// Those that the kernels are called with: before a stride, after an upsampling.
    fn pixels(&self, x: &FlexTensor) -> Pixels {
        let [n, h, w, _] = shape(x);
        match self.resolution {
            Resolution::Same | Resolution::Halved => Pixels::new(n, h, w),
            Resolution::Doubled => Pixels::new(n, 2 * h, 2 * w),
        }
    }

    fn output_pixels(&self, x: &FlexTensor) -> Pixels {
        match self.resolution {
            Resolution::Same | Resolution::Doubled => self.pixels(x),
            Resolution::Halved => self.pixels(x).halved(),
        }
    }

    fn source<'a>(&self, x: &'a FlexTensor) -> Source<'a> {
        let source = Source::new(values(x), shape::<4>(x)[3]);
        if self.resolution == Resolution::Doubled { source.upsampled() } else { source }
    }
}

impl Operation<5> for Convolution {
    type Kept = GroupNormStats;

    fn forward(&self, operands: &Operands<5>, keeps: bool) -> (FlexTensor, Option<GroupNormStats>) {
        let [Some(x), Some(weight), Some(bias), gamma, beta] = operands else {
            panic!("a convolution has x, weight and bias")
        };
        let (pixels, output) = (self.pixels(x), self.output_pixels(x));
        let [_, _, _, c_out] = shape(weight);
        let mut source = self.source(x);
        let mut stats = GroupNormStats::default();
        let folded;
        if let (Some(gamma), Some(beta)) = (gamma, beta) {
            stats = kernels::group_norm_stats(pixels, &source, self.norm_groups, NORM_EPSILON);
            let norm =
                normalization::of(self.norm_groups, gamma, beta, &stats, self.activation, None);
            folded = norm.folded();
            source = source.with_prologue(folded.prologue());
        }
        let mut y = Unwritten::new(output.total() * c_out);
        let epilogue = Epilogue::bias(values(bias));
        match (self.resolution, &self.prepared) {
            (Resolution::Halved, Some(PreparedConv::Halving(prepared))) => {
                let weights = Weights::Prepared(&**prepared);
                conv3x3_stride2(pixels, &source, weights, c_out, &epilogue, &mut y);
            }
            (Resolution::Halved, _) => {
                let weights = Weights::Plain(values(weight));
                conv3x3_stride2(pixels, &source, weights, c_out, &epilogue, &mut y);
            }
            (_, Some(PreparedConv::Keeping(prepared))) => {
                let weights = Weights::Prepared(&**prepared);
                conv3x3(pixels, &source, weights, c_out, &epilogue, &mut y);
            }
            _ => {
                let weights = Weights::Plain(values(weight));
                conv3x3(pixels, &source, weights, c_out, &epilogue, &mut y);
            }
        }
        (tensor(y.into_vec(), [output.n, output.h, output.w, c_out]), keeps.then_some(stats))
    }

    fn backward(
        &self,
        operands: Operands<5>,
        stats: GroupNormStats,
        dy: FlexTensor,
        wanted: [bool; 5],
    ) -> Operands<5> {
        let [Some(x), Some(weight), _, gamma, beta] = operands else {
            panic!("a convolution has x, weight and bias")
        };
        let (pixels, dy) = (self.pixels(&x), values(&dy));
        let [_, _, c_in, c_out] = shape(&weight);
        let mut source = self.source(&x);
        let folded;
        let norm = match (&gamma, &beta) {
            (Some(gamma), Some(beta)) => {
                let norm =
                    normalization::of(self.norm_groups, gamma, beta, &stats, self.activation, None);
                folded = norm.folded();
                source = source.with_prologue(folded.prologue());
                Some(norm)
            }
            _ => None,
        };
        let mut dweight = Unwritten::new(9 * c_in * c_out);
        if self.resolution == Resolution::Halved {
            kernels::conv3x3_stride2_weight_grad(pixels, &source, dy, c_out, &mut dweight);
        } else {
            kernels::conv3x3_weight_grad(pixels, &source, dy, c_out, &mut dweight);
        }
        let mut dbias = Unwritten::new(c_out);
        let rows = Pixels::new(1, self.output_pixels(&x).total(), 1);
        kernels::sum_pixels(rows, dy, c_out, &mut dbias);

        let mut gradients = [None, None, None, None, None];
        if wanted[0] || norm.is_some() {
            let mut dx = Unwritten::new(values(&x).len());
            let sink = Sink::new(&mut dx, c_in);
            let weight = values(&weight);
            match self.resolution {
                Resolution::Same => {
                    kernels::conv3x3_data_grad(pixels, dy, c_out, weight, sink);
                }
                Resolution::Doubled => {
                    kernels::conv3x3_data_grad(pixels, dy, c_out, weight, sink.upsampled());
                }
                Resolution::Halved => {
                    kernels::conv3x3_stride2_data_grad(pixels, dy, c_out, weight, sink);
                }
            }
            if let Some(norm) = norm {
                let (mut dgamma, mut dbeta) = (Unwritten::new(c_in), Unwritten::new(c_in));
                let dnormalized = dx.into_vec();
                dx = Unwritten::new(dnormalized.len());
                kernels::group_norm_backward(
                    pixels,
                    &self.source(&x),
                    &norm,
                    &dnormalized,
                    Sink::new(&mut dx, c_in),
                    &mut dgamma,
                    &mut dbeta,
                );
                gradients[3] = Some(tensor(dgamma.into_vec(), [c_in]));
                gradients[4] = Some(tensor(dbeta.into_vec(), [c_in]));
            }
            gradients[0] = Some(tensor(dx.into_vec(), shape::<4>(&x)));
        }
        gradients[1] = Some(tensor(dweight.into_vec(), [3, 3, c_in, c_out]));
        gradients[2] = Some(tensor(dbias.into_vec(), [c_out]));
        gradients
    }
}
