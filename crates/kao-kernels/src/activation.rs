//! Activations, alone; inside other kernels they come as [`crate::Prologue`] or with
//! [`crate::group_norm()`].

use crate::Destination;
use crate::parallel::{Shared, for_each_task};
use crate::simd::{Kernel, Simd, dispatch, simd_level};

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

/// An activation as the kernels apply it: a type, so that loops are compiled for each.
pub(crate) trait Pointwise {
    /// # Safety
    /// S is available.
    unsafe fn apply<S: Simd>(x: S::V) -> S::V;
    /// # Safety
    /// S is available.
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V;
}

pub(crate) struct Identity;
pub(crate) struct Silu;
pub(crate) struct Hardswish;

// SAFETY of every block below: the trait's promise that S is available.
impl Pointwise for Identity {
    #[inline(always)]
    unsafe fn apply<S: Simd>(x: S::V) -> S::V {
        x
    }

    #[inline(always)]
    unsafe fn derivative<S: Simd>(_x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::splat(1.0) }
    }
}

impl Pointwise for Silu {
    #[inline(always)]
    unsafe fn apply<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::div(x, S::add(S::splat(1.0), exp::<S>(S::sub(S::splat(0.0), x)))) }
    }

    #[inline(always)]
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe {
            let one = S::splat(1.0);
            let sigmoid = S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))));
            S::mul(sigmoid, S::fma(x, S::sub(one, sigmoid), one))
        }
    }
}

impl Pointwise for Hardswish {
    #[inline(always)]
    unsafe fn apply<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe {
            let gate = S::fma(x, S::splat(1.0 / 6.0), S::splat(0.5));
            S::mul(x, S::min(S::max(gate, S::splat(0.0)), S::splat(1.0)))
        }
    }

    #[inline(always)]
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe {
            let (zero, one, three) = (S::splat(0.0), S::splat(1.0), S::splat(3.0));
            let middle = S::fma(x, S::splat(1.0 / 3.0), S::splat(0.5));
            let below = S::select_lt(S::splat(-3.0), x, middle, zero);
            S::select_lt(x, three, below, one)
        }
    }
}

/// e^x, to about one unit in the last place; 0 below −87.3 becomes 2^−126, above 88.3 the value there.
///
/// # Safety
/// S is available.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::max(S::min(x, S::splat(88.0)), S::splat(-87.0));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first of which is exact in few bits.
        let r = S::fma(n, S::splat(-355.0 / 512.0), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.0 / 720.0);
        for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = S::fma(p, r, S::splat(coefficient));
        }
        S::mul(p, S::exp2_of_integer(n))
    }
}

/// Calls `$body` with `$pointwise` being the type of `$activation`.
macro_rules! for_activation {
    ($activation:expr, $pointwise:ident => $body:expr) => {
        match $activation {
            $crate::Activation::Identity => {
                type $pointwise = $crate::activation::Identity;
                $body
            }
            $crate::Activation::Silu => {
                type $pointwise = $crate::activation::Silu;
                $body
            }
            $crate::Activation::Hardswish => {
                type $pointwise = $crate::activation::Hardswish;
                $body
            }
        }
    };
}
pub(crate) use for_activation;

/// Elements of a task.
const CHUNK: usize = 1 << 15;

/// `y = act(x)`, any shape.
///
/// # Panics
/// If the lengths differ.
pub fn activation<'a>(activation: Activation, x: &[f32], y: impl Into<Destination<'a>>) {
    let y = y.into();
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    forward(activation, x, y);
}

fn forward(activation: Activation, x: &[f32], mut y: Destination<'_>) {
    let to = Shared::new(y.as_mut_ptr());
    let level = simd_level();
    for_each_task(x.len().div_ceil(CHUNK), |task| {
        let x = &x[task * CHUNK..][..CHUNK.min(x.len() - task * CHUNK)];
        // SAFETY: the level is available; y is as long as x and each task writes its own part.
        unsafe {
            dispatch(level, Forward { activation, x, y: to.get().add(task * CHUNK) });
        }
    });
    // SAFETY: the tasks have written all of it.
    unsafe { y.mark_written() };
}

/// `dx = dy · act'(x)`, any shape. Hardswish has the derivative 0 at −3 and 1 at 3.
///
/// # Panics
/// If the lengths differ.
pub fn activation_backward<'a>(
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    dx: impl Into<Destination<'a>>,
) {
    let dx = dx.into();
    assert_eq!(x.len(), dy.len(), "lengths of x and dy");
    assert_eq!(x.len(), dx.len(), "lengths of x and dx");
    backward(activation, x, dy, dx);
}

fn backward(activation: Activation, x: &[f32], dy: &[f32], mut dx: Destination<'_>) {
    let to = Shared::new(dx.as_mut_ptr());
    let level = simd_level();
    for_each_task(x.len().div_ceil(CHUNK), |task| {
        let len = CHUNK.min(x.len() - task * CHUNK);
        let (x, dy) = (&x[task * CHUNK..][..len], &dy[task * CHUNK..][..len]);
        // SAFETY: the level is available; dx is as long as x and each task writes its own part.
        unsafe {
            dispatch(level, Backward { activation, x, dy, dx: to.get().add(task * CHUNK) });
        }
    });
    // SAFETY: the tasks have written all of it.
    unsafe { dx.mark_written() };
}

struct Forward<'a> {
    activation: Activation,
    x: &'a [f32],
    y: *mut f32,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: y is as long as x.
        for_activation!(self.activation, P => unsafe {
            let mut i = 0;
            while i < self.x.len() {
                let lanes = (self.x.len() - i).min(S::LANES);
                let x = S::load_part(self.x.as_ptr().add(i), lanes);
                S::store_part(self.y.add(i), lanes, P::apply::<S>(x));
                i += lanes;
            }
        });
    }
}

struct Backward<'a> {
    activation: Activation,
    x: &'a [f32],
    dy: &'a [f32],
    dx: *mut f32,
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: dy and dx are as long as x.
        for_activation!(self.activation, P => unsafe {
            let mut i = 0;
            while i < self.x.len() {
                let lanes = (self.x.len() - i).min(S::LANES);
                let x = S::load_part(self.x.as_ptr().add(i), lanes);
                let dy = S::load_part(self.dy.as_ptr().add(i), lanes);
                S::store_part(self.dx.add(i), lanes, S::mul(dy, P::derivative::<S>(x)));
                i += lanes;
            }
        });
    }
}
