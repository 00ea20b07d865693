//! Activations, alone; inside other kernels they come as [`crate::Prologue`] or with
//! [`crate::group_norm`].

use crate::reference;

/// A pointwise function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x.
    #[default]
    Identity,
    /// x · sigmoid(x), also called swish.
    Silu,
    /// x · clamp(x + 3, 0, 6) / 6.
    Hardswish,
}

/// `y = act(x)`, any shape.
///
/// # Panics
/// If the lengths differ.
pub fn activation(activation: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    reference::activation(activation, x, y);
}

/// `dx = dy · act'(x)`, any shape. Hardswish has the derivative 0 at −3 and 1 at 3.
///
/// # Panics
/// If the lengths differ.
pub fn activation_backward(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!(x.len(), dy.len(), "lengths of x and dy");
    assert_eq!(x.len(), dx.len(), "lengths of x and dx");
    reference::activation_backward(activation, x, dy, dx);
}
