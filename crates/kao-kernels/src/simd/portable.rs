//! Plain Rust on four lanes: what serves where nothing better is known, and under Miri.

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

// SAFETY of every block below: the trait's promise that pointers are valid for the lanes they are
// used for.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Portable {
    const LANES: usize = 4;
    const TILE_VECTORS: usize = 2;
    const TILE_ROWS: usize = 4;
    type V = [f32; 4];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, n: usize) -> Self::V {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = unsafe { *from.add(i) };
        }
        lanes
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut f32, n: usize, v: Self::V) {
        for (i, &lane) in v.iter().enumerate().take(n) {
            unsafe { *to.add(i) = lane };
        }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        [a[0] / b[0], a[1] / b[1], a[2] / b[2], a[3] / b[3]]
    }

    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        [a[0].min(b[0]), a[1].min(b[1]), a[2].min(b[2]), a[3].min(b[3])]
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        [a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2]), a[3].max(b[3])]
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        [a[0].sqrt(), a[1].sqrt(), a[2].sqrt(), a[3].sqrt()]
    }

    /// Two roundings: without the instruction, `f32::mul_add` is a slow function call.
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }

    #[inline(always)]
    unsafe fn select_lt(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        let mut lanes = otherwise;
        for i in 0..4 {
            if a[i] < b[i] {
                lanes[i] = then[i];
            }
        }
        lanes
    }

    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        // Adding and taking away 1.5 · 2²³ rounds what is below 2²² to the nearest integer.
        let magic = 12_582_912.0f32;
        [a[0] + magic - magic, a[1] + magic - magic, a[2] + magic - magic, a[3] + magic - magic]
    }

    #[inline(always)]
    unsafe fn exp2_of_integer(a: Self::V) -> Self::V {
        let mut lanes = a;
        for lane in &mut lanes {
            *lane = f32::from_bits(((*lane as i32 + 127) as u32) << 23);
        }
        lanes
    }

    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }

    #[inline(always)]
    unsafe fn greatest(a: Self::V) -> f32 {
        a[0].max(a[2]).max(a[1].max(a[3]))
    }
}
