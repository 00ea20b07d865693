//! Vectors of channels side by side, the last of which may be incomplete.

use crate::simd::Simd;

/// Vectors of channels that are summed side by side.
pub const ABREAST: usize = 4;

/// Vector `i` of the `width` values at `from`; lanes beyond are 0.
#[inline(always)]
pub unsafe fn load_of<S: Simd>(from: *const f32, i: usize, width: usize) -> S::V {
    let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
    // SAFETY: the caller promises `width` values.
    unsafe {
        if lanes == S::LANES {
            S::load(from.add(i * S::LANES))
        } else if lanes > 0 {
            S::load_part(from.add(i * S::LANES), lanes)
        } else {
            S::splat(0.0)
        }
    }
}

/// The counterpart of [`load_of`].
#[inline(always)]
pub unsafe fn store_of<S: Simd>(to: *mut f32, i: usize, width: usize, value: S::V) {
    let lanes = width.saturating_sub(i * S::LANES).min(S::LANES);
    // SAFETY: the caller promises room for `width` values.
    unsafe {
        if lanes == S::LANES {
            S::store(to.add(i * S::LANES), value);
        } else if lanes > 0 {
            S::store_part(to.add(i * S::LANES), lanes, value);
        }
    }
}

/// The `width` values at `from`; lanes beyond are 0.
#[inline(always)]
pub unsafe fn load_all<S: Simd>(from: *const f32, width: usize) -> [S::V; ABREAST] {
    // SAFETY: the caller promises `width` values.
    unsafe {
        let mut vectors = [S::splat(0.0); ABREAST];
        for (i, vector) in vectors.iter_mut().enumerate() {
            *vector = load_of::<S>(from, i, width);
        }
        vectors
    }
}
