//! Where gradients are gathered on the way back.

use super::Value;
use crate::unet::layers::LayerId;
use kao_kernels::{Sink, Unwritten};
use rayon::prelude::*;

/// Values that a task adds.
const CHUNK: usize = 1 << 14;

/// The gradients of values, until the operation that computed the value takes them; and the way out
/// for those of parameters.
pub(super) struct Gradients<'a> {
    of_values: Vec<Option<Vec<f32>>>,
    sink: &'a mut dyn FnMut(usize, Vec<f32>),
}

impl<'a> Gradients<'a> {
    pub(super) fn new(n_slots: usize, sink: &'a mut dyn FnMut(usize, Vec<f32>)) -> Self {
        Gradients { of_values: vec![None; n_slots], sink }
    }

    /// The gradient of the value in `slot`, complete: everyone who read the value was recorded
    /// after the operation that asks.
    pub(super) fn take(&mut self, slot: Option<usize>) -> Vec<f32> {
        let slot = slot.expect("a recorded output has a slot");
        self.of_values[slot].take().expect("every recorded output leads to the prediction")
    }

    /// Adds `gradient` to that of `value`, if one is wanted.
    pub(super) fn add(&mut self, value: &Value, gradient: Vec<f32>) {
        let Some(slot) = value.slot else { return };
        match &mut self.of_values[slot] {
            Some(sum) => add(sum, &gradient),
            none => *none = Some(gradient),
        }
    }

    /// What other readers left of the gradient of `value`, if anything.
    pub(super) fn taken(&mut self, value: &Value) -> Option<Vec<f32>> {
        value.slot.and_then(|slot| self.of_values[slot].take())
    }

    /// Room for the gradient of `value`: what other readers left, to be added to, or else memory to
    /// be written.
    pub(super) fn room(&mut self, value: &Value) -> Room {
        match self.taken(value) {
            Some(sum) => Room::Sum(sum),
            None => Room::Unwritten(Unwritten::new(value.values.len())),
        }
    }

    /// Hands out the gradients of a layer's weight and bias.
    pub(super) fn layer(&mut self, id: LayerId, weight: Vec<f32>, bias: Vec<f32>) {
        (self.sink)(id.weight(), weight);
        (self.sink)(id.bias(), bias);
    }
}

/// Where a kernel writes the gradient of an input.
pub(super) enum Room {
    /// To be added to.
    Sum(Vec<f32>),
    /// To be written.
    Unwritten(Unwritten),
}

impl Room {
    pub(super) fn sink(&mut self, channels: usize) -> Sink<'_> {
        match self {
            Room::Sum(sum) => Sink::new(sum, channels).accumulating(),
            Room::Unwritten(room) => Sink::new(room, channels),
        }
    }

    pub(super) fn into_vec(self) -> Vec<f32> {
        match self {
            Room::Sum(sum) => sum,
            Room::Unwritten(room) => room.into_vec(),
        }
    }

    pub(super) fn put_back(self, gradients: &mut Gradients<'_>, value: &Value) {
        gradients.add(value, self.into_vec());
    }
}

/// Adds `values` to `sum`, element by element.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    assert_eq!(sum.len(), values.len(), "lengths of sum and values");
    let pairs = sum.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
    pairs.for_each(|(sum, values)| {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    });
}
