//! The residual block as one operation: what lies between its convolutions is never a tensor of
//! Burn's, and the gradient of its input is summed where it is written.

use super::bridge::{Operands, Operation, shape, tensor, values};
use super::normalization::{self, NORM_EPSILON};
use crate::unet::layers::{PreparedConv, PreparedMatrix};
use burn::backend::flex::FlexTensor;
use kao_kernels::{self as kernels, Activation, Dropout, Epilogue, GroupNorm};
use kao_kernels::{GroupNormStats, Pixels, PreparedConv3x3, Sink, Source, Unwritten};
use kao_kernels::{Weights, conv3x3};

/// Operands, in the order of [`Named`].
#[derive(Clone, Debug)]
pub(super) struct ResidualBlock {
    /// Of both normalizations.
    pub(super) norm_groups: usize,
    pub(super) activation: Activation,
    /// Before the second convolution.
    pub(super) dropout: Option<Dropout>,
    /// Of both convolutions.
    pub(super) prepared: [Option<PreparedConv>; 2],
    pub(super) prepared_shortcut: Option<PreparedMatrix>,
}

/// Number of operands.
pub(super) const OPERANDS: usize = 13;

/// The operands by name.
struct Named<'a> {
    /// `[N, H, W, C_first]`.
    x: &'a FlexTensor,
    /// `[N, H, W, C_second]`: what lies beside x along the channels.
    skip: Option<&'a FlexTensor>,
    /// `[N, C_out]`, from the time embedding.
    image_bias: &'a FlexTensor,
    gamma1: &'a FlexTensor,
    beta1: &'a FlexTensor,
    weight1: &'a FlexTensor,
    bias1: &'a FlexTensor,
    gamma2: &'a FlexTensor,
    beta2: &'a FlexTensor,
    weight2: &'a FlexTensor,
    bias2: &'a FlexTensor,
    /// Weight and bias, where the block changes the number of channels.
    shortcut: Option<(&'a FlexTensor, &'a FlexTensor)>,
}

impl<'a> Named<'a> {
    fn new(operands: &'a Operands<OPERANDS>) -> Self {
        let given = |i: usize| operands[i].as_ref().expect("a residual block has its operands");
        Named {
            x: given(0),
            skip: operands[1].as_ref(),
            image_bias: given(2),
            gamma1: given(3),
            beta1: given(4),
            weight1: given(5),
            bias1: given(6),
            gamma2: given(7),
            beta2: given(8),
            weight2: given(9),
            bias2: given(10),
            shortcut: operands[11].as_ref().zip(operands[12].as_ref()),
        }
    }

    fn pixels(&self) -> Pixels {
        let [n, h, w, _] = shape(self.x);
        Pixels::new(n, h, w)
    }

    fn c_out(&self) -> usize {
        shape::<4>(self.weight1)[3]
    }

    /// Channels of x and of the skip.
    fn c_parts(&self) -> [usize; 2] {
        [shape::<4>(self.x)[3], self.skip.map_or(0, |skip| shape::<4>(skip)[3])]
    }

    fn source(&self) -> Source<'a> {
        let [c_first, c_second] = self.c_parts();
        match self.skip {
            Some(skip) => Source::pair(values(self.x), c_first, values(skip), c_second),
            None => Source::new(values(self.x), c_first),
        }
    }
}

impl ResidualBlock {
    /// The normalization before the first convolution.
    fn norm1<'a>(&self, named: &Named<'a>, stats: &'a GroupNormStats) -> GroupNorm<'a> {
        let (gamma, beta) = (named.gamma1, named.beta1);
        normalization::of(self.norm_groups, gamma, beta, stats, self.activation, None)
    }

    /// The one before the second, with the dropout.
    fn norm2<'a>(&self, named: &Named<'a>, stats: &'a GroupNormStats) -> GroupNorm<'a> {
        let (gamma, beta) = (named.gamma2, named.beta2);
        normalization::of(self.norm_groups, gamma, beta, stats, self.activation, self.dropout)
    }
}

/// What the backward pass wants beside the operands.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    stats1: GroupNormStats,
    /// Output of the first convolution.
    h: FlexTensor,
    stats2: GroupNormStats,
    /// Input of the second convolution, where there is dropout: its mask is costly.
    dropped: Option<FlexTensor>,
}

impl Operation<OPERANDS> for ResidualBlock {
    type Kept = Kept;

    fn forward(&self, operands: &Operands<OPERANDS>, keeps: bool) -> (FlexTensor, Option<Kept>) {
        let named = Named::new(operands);
        let (pixels, c_out, source) = (named.pixels(), named.c_out(), named.source());
        let len = pixels.total() * c_out;

        let stats1 = kernels::group_norm_stats(pixels, &source, self.norm_groups, NORM_EPSILON);
        let norm1 = self.norm1(&named, &stats1);
        let folded1 = norm1.folded();
        let normalized = source.with_prologue(folded1.prologue());
        let epilogue = Epilogue {
            bias: Some(values(named.bias1)),
            image_bias: Some(values(named.image_bias)),
            residual: None,
        };
        let mut h = Unwritten::new(len);
        let weights = weights(&self.prepared[0], named.weight1);
        conv3x3(pixels, &normalized, weights, c_out, &epilogue, &mut h);
        let h = h.into_vec();

        let projected;
        let residual = match named.shortcut {
            None => values(named.x),
            Some((weight, bias)) => {
                let mut to = Unwritten::new(len);
                let weights = match &self.prepared_shortcut {
                    Some(prepared) => Weights::Prepared(&**prepared),
                    None => Weights::Plain(values(weight)),
                };
                let epilogue = Epilogue::bias(values(bias));
                kernels::conv1x1(pixels, &source, weights, c_out, &epilogue, &mut to);
                projected = to.into_vec();
                &projected
            }
        };

        let between = Source::new(&h, c_out);
        let stats2 = kernels::group_norm_stats(pixels, &between, self.norm_groups, NORM_EPSILON);
        let norm2 = self.norm2(&named, &stats2);
        let epilogue = Epilogue {
            bias: Some(values(named.bias2)),
            image_bias: None,
            residual: Some(residual),
        };
        let weights = self::weights(&self.prepared[1], named.weight2);
        let mut y = Unwritten::new(len);
        let dropped = match self.dropout {
            Some(_) => {
                let mut dropped = Unwritten::new(len);
                kernels::group_norm(pixels, &between, &norm2, &mut dropped);
                let dropped = dropped.into_vec();
                let source = Source::new(&dropped, c_out);
                conv3x3(pixels, &source, weights, c_out, &epilogue, &mut y);
                Some(dropped)
            }
            None => {
                let folded2 = norm2.folded();
                let source = between.with_prologue(folded2.prologue());
                conv3x3(pixels, &source, weights, c_out, &epilogue, &mut y);
                None
            }
        };
        let shape = [pixels.n, pixels.h, pixels.w, c_out];
        let kept = keeps.then(|| Kept {
            stats1,
            h: tensor(h, shape),
            stats2,
            dropped: dropped.map(|dropped| tensor(dropped, shape)),
        });
        (tensor(y.into_vec(), shape), kept)
    }

    fn backward(
        &self,
        operands: Operands<OPERANDS>,
        kept: Kept,
        dy: FlexTensor,
        _wanted: [bool; OPERANDS],
    ) -> Operands<OPERANDS> {
        let named = Named::new(&operands);
        let (pixels, c_out, source) = (named.pixels(), named.c_out(), named.source());
        let c_in = source.channels();
        let all = Pixels::new(1, pixels.total(), 1);
        let Kept { stats1, h, stats2, dropped } = kept;

        // The second convolution, and the normalization before it.
        let norm2 = self.norm2(&named, &stats2);
        let between = Source::new(values(&h), c_out);
        let mut dweight2 = Unwritten::new(9 * c_out * c_out);
        match &dropped {
            Some(dropped) => {
                let source = Source::new(values(dropped), c_out);
                kernels::conv3x3_weight_grad(pixels, &source, values(&dy), c_out, &mut dweight2);
            }
            None => {
                let folded2 = norm2.folded();
                let source = between.with_prologue(folded2.prologue());
                kernels::conv3x3_weight_grad(pixels, &source, values(&dy), c_out, &mut dweight2);
            }
        }
        drop(dropped);
        let mut dbias2 = Unwritten::new(c_out);
        kernels::sum_pixels(all, values(&dy), c_out, &mut dbias2);
        let dbias2 = dbias2.into_vec();
        let mut dnormalized = Unwritten::new(pixels.total() * c_out);
        let sink = Sink::new(&mut dnormalized, c_out);
        kernels::conv3x3_data_grad(pixels, values(&dy), c_out, values(named.weight2), sink);
        let dnormalized = dnormalized.into_vec();
        let mut dh = Unwritten::new(pixels.total() * c_out);
        let (mut dgamma2, mut dbeta2) = (Unwritten::new(c_out), Unwritten::new(c_out));
        let sink = Sink::new(&mut dh, c_out);
        kernels::group_norm_backward(
            pixels,
            &between,
            &norm2,
            &dnormalized,
            sink,
            &mut dgamma2,
            &mut dbeta2,
        );
        let dh = dh.into_vec();
        drop((dnormalized, h));

        // The first convolution.
        let mut dimage_bias = Unwritten::new(pixels.n * c_out);
        kernels::sum_pixels(pixels, &dh, c_out, &mut dimage_bias);
        let dimage_bias = dimage_bias.into_vec();
        let mut dbias1 = Unwritten::new(c_out);
        kernels::sum_pixels(Pixels::new(1, pixels.n, 1), &dimage_bias, c_out, &mut dbias1);
        let norm1 = self.norm1(&named, &stats1);
        let folded1 = norm1.folded();
        let mut dweight1 = Unwritten::new(9 * c_in * c_out);
        let normalized = source.with_prologue(folded1.prologue());
        kernels::conv3x3_weight_grad(pixels, &normalized, &dh, c_out, &mut dweight1);
        let mut dnormalized = Unwritten::new(pixels.total() * c_in);
        let sink = Sink::new(&mut dnormalized, c_in);
        kernels::conv3x3_data_grad(pixels, &dh, c_out, values(named.weight1), sink);
        let dnormalized = dnormalized.into_vec();
        drop(dh);

        // The way around, whose gradient that of the first normalization is added to.
        let [c_first, c_second] = named.c_parts();
        let (mut dx, mut dskip) = match named.shortcut {
            Some((weight, _)) => {
                let [mut dx, mut dskip] =
                    [c_first, c_second].map(|c| Unwritten::new(pixels.total() * c));
                let sink = Sink::pair(&mut dx, c_first, &mut dskip, c_second);
                kernels::conv1x1_data_grad(pixels, values(&dy), c_out, values(weight), sink);
                let dx = tensor(dx.into_vec(), [pixels.n, pixels.h, pixels.w, c_first]);
                (dx, dskip.into_vec())
            }
            None => (dy.clone(), Vec::new()),
        };
        let shortcut = named.shortcut.map(|_| {
            let mut dweight = Unwritten::new(c_in * c_out);
            kernels::conv1x1_weight_grad(pixels, &source, values(&dy), c_out, &mut dweight);
            (tensor(dweight.into_vec(), [c_in, c_out]), tensor(dbias2.clone(), [c_out]))
        });
        drop(dy);
        let (mut dgamma1, mut dbeta1) = (Unwritten::new(c_in), Unwritten::new(c_in));
        let sink = Sink::pair(dx.storage_mut::<f32>(), c_first, &mut dskip, c_second);
        kernels::group_norm_backward(
            pixels,
            &source,
            &norm1,
            &dnormalized,
            sink.accumulating(),
            &mut dgamma1,
            &mut dbeta1,
        );

        let (dweight_shortcut, dbias_shortcut) = shortcut.unzip();
        [
            Some(dx),
            named.skip.map(|skip| tensor(dskip, shape::<4>(skip))),
            Some(tensor(dimage_bias, [pixels.n, c_out])),
            Some(tensor(dgamma1.into_vec(), [c_in])),
            Some(tensor(dbeta1.into_vec(), [c_in])),
            Some(tensor(dweight1.into_vec(), [3, 3, c_in, c_out])),
            Some(tensor(dbias1.into_vec(), [c_out])),
            Some(tensor(dgamma2.into_vec(), [c_out])),
            Some(tensor(dbeta2.into_vec(), [c_out])),
            Some(tensor(dweight2.into_vec(), [3, 3, c_out, c_out])),
            Some(tensor(dbias2, [c_out])),
            dweight_shortcut,
            dbias_shortcut,
        ]
    }
}

fn weights<'a>(
    prepared: &'a Option<PreparedConv>,
    plain: &'a FlexTensor,
) -> Weights<'a, PreparedConv3x3> {
    match prepared {
        Some(PreparedConv::Keeping(prepared)) => Weights::Prepared(&**prepared),
        _ => Weights::Plain(values(plain)),
    }
}
