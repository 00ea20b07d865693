//! The fully connected layer and the activation alone: the small operations of the time embedding.

use super::gradients::Gradients;
use super::{CpuEngine, Value};
use crate::unet::layers::LayerId;
use kao_kernels::{self as kernels, Epilogue, LinearShape, Pixels, Unwritten};

pub(super) fn linear(engine: &mut CpuEngine<'_>, x: &Value, layer: LayerId) -> Value {
    let c_out = engine.layer(layer).c_out;
    let mut y = Unwritten::new(x.pixels.total() * c_out);
    let epilogue = Epilogue::bias(engine.bias(layer));
    kernels::conv1x1(x.pixels, &x.source(), engine.matrix(layer), c_out, &epilogue, &mut y);
    engine.value(y.into_vec(), x.pixels, c_out)
}

pub(super) struct RecordedLinear {
    pub(super) x: Value,
    pub(super) layer: LayerId,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedLinear {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedLinear { x, layer, y } = self;
        let dy = gradients.take(y);
        let (c_in, c_out) = (x.channels, engine.layer(layer).c_out);
        let rows = x.pixels.total();
        if x.slot.is_some() {
            let mut room = gradients.room(&x);
            let weight = engine.weight(layer);
            kernels::conv1x1_data_grad(x.pixels, &dy, c_out, weight, room.sink(c_in));
            room.put_back(gradients, &x);
        }
        let (mut dweight, mut dbias) = (Unwritten::new(c_in * c_out), Unwritten::new(c_out));
        let shape = LinearShape { rows, c_in, c_out };
        kernels::linear_weight_grad(shape, &x.values, &dy, &mut dweight);
        kernels::sum_pixels(Pixels::new(1, rows, 1), &dy, c_out, &mut dbias);
        gradients.layer(layer, dweight.into_vec(), dbias.into_vec());
    }
}

pub(super) fn activation(engine: &mut CpuEngine<'_>, x: &Value) -> Value {
    let mut y = Unwritten::new(x.values.len());
    kernels::activation(engine.activation_kind(), &x.values, &mut y);
    engine.value(y.into_vec(), x.pixels, x.channels)
}

pub(super) struct RecordedActivation {
    pub(super) x: Value,
    /// The slot of the output.
    pub(super) y: Option<usize>,
}

impl RecordedActivation {
    pub(super) fn backward(self, engine: &CpuEngine<'_>, gradients: &mut Gradients<'_>) {
        let RecordedActivation { x, y } = self;
        let dy = gradients.take(y);
        let mut dx = Unwritten::new(x.values.len());
        kernels::activation_backward(engine.activation_kind(), &x.values, &dy, &mut dx);
        gradients.add(&x, dx.into_vec());
    }
}
