//! A 3×3 convolution at one of three resolutions, behind a normalization or not.

use super::gradients::Gradients;
use super::{CpuEngine, Value};
use crate::unet::layers::{LayerId, LayerKind, Resolution};
use kao_kernels::{self as kernels, AffineGradients, Epilogue, GroupNormStats};
use kao_kernels::{Pixels, Sink, Source, Unwritten};

/// The resolution of a convolution, and the pixels on either side of it.
struct Geometry {
    resolution: Resolution,
    /// Those that the kernels are called with: before a stride, after an upsampling.
    pixels: Pixels,
    output: Pixels,
}

impl Geometry {
    fn new(engine: &CpuEngine<'_>, conv: LayerId, x: Pixels) -> Self {
        let LayerKind::Conv3x3(resolution) = engine.layer(conv).kind else {
            unreachable!("the forward pass names a 3×3 convolution")
        };
        let (pixels, output) = match resolution {
            Resolution::SameSize => (x, x),
            Resolution::Stride2(padding) => (x, padding.output(x)),
            Resolution::Upsampled => {
                let upsampled = Pixels::new(x.n, 2 * x.h, 2 * x.w);
                (upsampled, upsampled)
            }
        };
        Geometry { resolution, pixels, output }
    }

    fn source<'x>(&self, x: &'x Value) -> Source<'x> {
        match self.resolution {
            Resolution::Upsampled => x.source().upsampled(),
            Resolution::SameSize | Resolution::Stride2(_) => x.source(),
        }
    }
}

/// The output, and the statistics of the normalization (empty without one).
pub(super) fn conv3x3(
    engine: &mut CpuEngine<'_>,
    x: &Value,
    norm: Option<LayerId>,
    conv: LayerId,
) -> (Value, GroupNormStats) {
    let geometry = Geometry::new(engine, conv, x.pixels);
    let Geometry { resolution, pixels, output } = geometry;
    let c_out = engine.layer(conv).c_out;
    let mut source = geometry.source(x);
    let mut stats = GroupNormStats::default();
    let folded;
    if let Some(norm) = norm {
        stats = engine.norm_stats(pixels, &source);
        folded = engine.norm(norm, &stats, engine.activation_kind(), None).folded();
        source = source.with_prologue(folded.prologue());
    }
    let mut y = Unwritten::new(output.total() * c_out);
    let epilogue = Epilogue::bias(engine.bias(conv));
    match resolution {
        Resolution::SameSize | Resolution::Upsampled => {
            let weights = engine.conv3x3_weights(conv, pixels.n);
            kernels::conv3x3(pixels, &source, weights, c_out, &epilogue, &mut y);
        }
        Resolution::Stride2(padding) => {
            let weights = engine.stride2_weights(conv);
            kernels::conv3x3_stride2(pixels, padding, &source, weights, c_out, &epilogue, &mut y);
        }
    }
    (engine.value(y.into_vec(), output, c_out), stats)
}

pub(super) struct RecordedConvolution {
    pub(super) x: Value,
    pub(super) norm: Option<LayerId>,
    pub(super) conv: LayerId,
    pub(super) stats: GroupNormStats,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedConvolution {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedConvolution { x, norm, conv, stats, y } = self;
        let dy = gradients.take(y);
        let geometry = Geometry::new(engine, conv, x.pixels);
        let Geometry { resolution, pixels, output } = geometry;
        let (c_in, c_out) = (x.channels, engine.layer(conv).c_out);
        let activation = engine.activation_kind();
        let norm = norm.map(|id| (id, engine.norm(id, &stats, activation, None)));
        let folded = norm.as_ref().map(|(_, norm)| norm.folded());
        let source = match &folded {
            Some(folded) => geometry.source(&x).with_prologue(folded.prologue()),
            None => geometry.source(&x),
        };

        let (mut dweight, mut dbias) = (Unwritten::new(9 * c_in * c_out), Unwritten::new(c_out));
        match resolution {
            Resolution::Stride2(padding) => {
                let dweight = &mut dweight;
                kernels::conv3x3_stride2_weight_grad(pixels, padding, &source, &dy, c_out, dweight);
            }
            Resolution::SameSize | Resolution::Upsampled => {
                kernels::conv3x3_weight_grad(pixels, &source, &dy, c_out, &mut dweight);
            }
        }
        kernels::sum_pixels(Pixels::new(1, output.total(), 1), &dy, c_out, &mut dbias);
        gradients.layer(conv, dweight.into_vec(), dbias.into_vec());

        let data_grad = |sink: Sink<'_>| {
            let weight = engine.weight(conv);
            match resolution {
                Resolution::SameSize => {
                    kernels::conv3x3_data_grad(pixels, &dy, c_out, weight, sink);
                }
                Resolution::Upsampled => {
                    kernels::conv3x3_data_grad(pixels, &dy, c_out, weight, sink.upsampled());
                }
                Resolution::Stride2(padding) => {
                    kernels::conv3x3_stride2_data_grad(pixels, padding, &dy, c_out, weight, sink);
                }
            }
        };
        match norm {
            None if x.slot.is_none() => {}
            None => {
                let mut room = gradients.room(&x);
                data_grad(room.sink(c_in));
                room.put_back(gradients, &x);
            }
            Some((id, norm)) => {
                let mut dnormalized = Unwritten::new(x.values.len());
                data_grad(Sink::new(&mut dnormalized, c_in));
                let dnormalized = dnormalized.into_vec();
                let (mut dgamma, mut dbeta) = (Unwritten::new(c_in), Unwritten::new(c_in));
                let mut room = gradients.room(&x);
                kernels::group_norm_backward(
                    pixels,
                    &geometry.source(&x),
                    &norm,
                    &dnormalized,
                    room.sink(c_in),
                    AffineGradients { gamma: (&mut dgamma).into(), beta: (&mut dbeta).into() },
                );
                room.put_back(gradients, &x);
                gradients.layer(id, dgamma.into_vec(), dbeta.into_vec());
            }
        }
    }
}
