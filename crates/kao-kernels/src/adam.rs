//! The optimizer's step and the moving average of the weights, in place.

use crate::parallel::{Shared, for_each_task};
use crate::profile::Timed;
use crate::simd::{Kernel, Simd, dispatch, simd_level};

/// Elements of a task.
const CHUNK: usize = 1 << 15;

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
    let _timed = Timed::start("adam_step", [0, 0]);
    update(adam, p, g, m, v, None);
}

/// [`adam_step`], then [`ema_update`] of `average` with the new parameters, in one pass through
/// memory: the same bytes in less time.
///
/// # Panics
/// If the lengths differ, or if `step` is 0.
pub fn adam_ema_step(
    adam: &AdamStep,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    decay: f32,
    average: &mut [f32],
) {
    let _timed = Timed::start("adam_ema_step", [0, 0]);
    assert_eq!(p.len(), average.len(), "lengths of parameters and average");
    update(adam, p, g, m, v, Some((decay, average)));
}

/// `average += (1 − decay) · (values − average)`, in place; any shape.
///
/// # Panics
/// If the lengths differ.
pub fn ema_update(decay: f32, average: &mut [f32], values: &[f32]) {
    let _timed = Timed::start("ema_update", [0, 0]);
    assert_eq!(average.len(), values.len(), "lengths of average and values");
    let (average, len) = (Shared::new(average.as_mut_ptr()), average.len());
    let level = simd_level();
    for_each_task(len.div_ceil(CHUNK), |task| {
        let values = &values[task * CHUNK..len.min((task + 1) * CHUNK)];
        // SAFETY: the level is available; both slices have the same length, and each task a part
        // of its own.
        unsafe {
            let average = average.get().add(task * CHUNK);
            dispatch(level, Blend { rate: rate(decay), average, values });
        }
    });
}

/// What an average moves by towards its values.
fn rate(decay: f32) -> f32 {
    (1.0 - f64::from(decay)) as f32
}

/// The step, and with a decay the average's.
fn update(
    adam: &AdamStep,
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    average: Option<(f32, &mut [f32])>,
) {
    assert_eq!(p.len(), g.len(), "lengths of parameters and gradients");
    assert_eq!(p.len(), m.len(), "lengths of parameters and first moments");
    assert_eq!(p.len(), v.len(), "lengths of parameters and second moments");
    assert!(adam.step > 0, "the first step has the number 1");
    let factors = Factors::new(adam);
    let (p, len) = (Shared::new(p.as_mut_ptr()), p.len());
    let (m, v) = (Shared::new(m.as_mut_ptr()), Shared::new(v.as_mut_ptr()));
    let average = average.map(|(decay, average)| (rate(decay), Shared::new(average.as_mut_ptr())));
    let level = simd_level();
    for_each_task(len.div_ceil(CHUNK), |task| {
        let first = task * CHUNK;
        // SAFETY: the level is available; all slices have the same length, and each task a part of
        // its own.
        unsafe {
            dispatch(
                level,
                Step {
                    factors,
                    len: CHUNK.min(len - first),
                    p: p.get().add(first),
                    g: g.as_ptr().add(first),
                    m: m.get().add(first),
                    v: v.get().add(first),
                    average: average.map(|(rate, average)| (rate, average.get().add(first))),
                },
            );
        }
    });
}

#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    keep: f32,
    minus_lr: f32,
    one_over_correction2: f32,
    eps: f32,
}

impl Factors {
    fn new(adam: &AdamStep) -> Self {
        let correction1 = 1.0 - f64::from(adam.beta1).powf(adam.step as f64);
        let correction2 = 1.0 - f64::from(adam.beta2).powf(adam.step as f64);
        Self {
            gradient_scale: adam.gradient_scale,
            beta1: adam.beta1,
            one_minus_beta1: (1.0 - f64::from(adam.beta1)) as f32,
            beta2: adam.beta2,
            one_minus_beta2: (1.0 - f64::from(adam.beta2)) as f32,
            keep: (1.0 - f64::from(adam.lr) * f64::from(adam.weight_decay)) as f32,
            minus_lr: (-f64::from(adam.lr) / correction1) as f32,
            one_over_correction2: (1.0 / correction2) as f32,
            eps: adam.eps,
        }
    }
}

struct Step {
    factors: Factors,
    len: usize,
    p: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    /// Rate and values of an average that follows.
    average: Option<(f32, *mut f32)>,
}

impl Kernel for Step {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut i = 0;
        // SAFETY: all hold `len` values.
        unsafe {
            while i + S::LANES <= self.len {
                let (p, m, v) = (self.p.add(i), self.m.add(i), self.v.add(i));
                let (new_p, new_m, new_v) = step::<S>(
                    &self.factors,
                    S::load(p),
                    S::load(self.g.add(i)),
                    S::load(m),
                    S::load(v),
                );
                S::store(p, new_p);
                S::store(m, new_m);
                S::store(v, new_v);
                if let Some((rate, average)) = self.average {
                    let average = average.add(i);
                    S::store(average, blend::<S>(rate, S::load(average), new_p));
                }
                i += S::LANES;
            }
            let rest = self.len - i;
            if rest > 0 {
                let (p, m, v) = (self.p.add(i), self.m.add(i), self.v.add(i));
                let (new_p, new_m, new_v) = step::<S>(
                    &self.factors,
                    S::load_part(p, rest),
                    S::load_part(self.g.add(i), rest),
                    S::load_part(m, rest),
                    S::load_part(v, rest),
                );
                S::store_part(p, rest, new_p);
                S::store_part(m, rest, new_m);
                S::store_part(v, rest, new_v);
                if let Some((rate, average)) = self.average {
                    let average = average.add(i);
                    let new = blend::<S>(rate, S::load_part(average, rest), new_p);
                    S::store_part(average, rest, new);
                }
            }
        }
    }
}

/// The new p, m and v.
#[inline(always)]
unsafe fn step<S: Simd>(
    factors: &Factors,
    p: S::V,
    g: S::V,
    m: S::V,
    v: S::V,
) -> (S::V, S::V, S::V) {
    // SAFETY: S is available, as the caller promises.
    unsafe {
        let g = S::mul(g, S::splat(factors.gradient_scale));
        let m = S::fma(m, S::splat(factors.beta1), S::mul(g, S::splat(factors.one_minus_beta1)));
        let squared = S::mul(S::mul(g, g), S::splat(factors.one_minus_beta2));
        let v = S::fma(v, S::splat(factors.beta2), squared);
        let root = S::sqrt(S::mul(v, S::splat(factors.one_over_correction2)));
        let direction = S::div(m, S::add(root, S::splat(factors.eps)));
        let p = S::mul(p, S::splat(factors.keep));
        (S::fma(direction, S::splat(factors.minus_lr), p), m, v)
    }
}

/// An average that has moved towards `values`.
#[inline(always)]
unsafe fn blend<S: Simd>(rate: f32, average: S::V, values: S::V) -> S::V {
    // SAFETY: S is available, as the caller promises.
    unsafe { S::fma(S::splat(rate), S::sub(values, average), average) }
}

struct Blend<'a> {
    rate: f32,
    average: *mut f32,
    values: &'a [f32],
}

impl Kernel for Blend<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let len = self.values.len();
        let mut i = 0;
        while i < len {
            let lanes = (len - i).min(S::LANES);
            // SAFETY: the average is as long as the values.
            unsafe {
                let (to, from) = (self.average.add(i), self.values.as_ptr().add(i));
                if lanes == S::LANES {
                    S::store(to, blend::<S>(self.rate, S::load(to), S::load(from)));
                } else {
                    let new =
                        blend::<S>(self.rate, S::load_part(to, lanes), S::load_part(from, lanes));
                    S::store_part(to, lanes, new);
                }
            }
            i += lanes;
        }
    }
}
