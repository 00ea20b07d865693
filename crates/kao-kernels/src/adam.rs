//! The optimizer's step and the moving average of the weights, in place.

use crate::reference;

/// One step of Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled; 0 is plain Adam.
    pub weight_decay: f32,
    /// The number of this step, the first being 1: what the bias corrections depend on.
    pub step: u64,
    /// What every gradient is multiplied by first: 1, or less for clipping or averaging.
    pub gradient_scale: f32,
}

impl Default for AdamStep {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 1,
            gradient_scale: 1.0,
        }
    }
}

/// Updates parameters `p` and moments `m` and `v` in place, given gradients `g`; any shape.
///
/// # Panics
/// If the lengths differ, or if `step` is 0.
pub fn adam_step(adam: &AdamStep, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    assert_eq!(p.len(), g.len(), "lengths of parameters and gradients");
    assert_eq!(p.len(), m.len(), "lengths of parameters and first moments");
    assert_eq!(p.len(), v.len(), "lengths of parameters and second moments");
    assert!(adam.step > 0, "the first step has the number 1");
    reference::adam_step(adam, p, g, m, v);
}

/// `average += (1 − decay) · (values − average)`, in place; any shape.
///
/// # Panics
/// If the lengths differ.
pub fn ema_update(decay: f32, average: &mut [f32], values: &[f32]) {
    assert_eq!(average.len(), values.len(), "lengths of average and values");
    reference::ema_update(decay, average, values);
}
