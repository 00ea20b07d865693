//! 512-bit vectors: AVX-512 F, VL, BW, DQ and FMA.

use super::Simd;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

// SAFETY of every block below: the trait's promise that the instruction set is available and that
// pointers are valid for the lanes they are used for.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Avx512 {
    const LANES: usize = 16;
    const TILE_VECTORS: usize = 2;
    const TILE_ROWS: usize = 14;
    type V = __m512;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_for_write(address: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, n: usize) -> Self::V {
        debug_assert!(n <= 16);
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, from) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut f32, n: usize, v: Self::V) {
        debug_assert!(n <= 16);
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << n) - 1) as __mmask16, v) }
    }

    #[inline(always)]
    unsafe fn select_lt(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), otherwise, then) }
    }

    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    unsafe fn exp2_of_integer(a: Self::V) -> Self::V {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    unsafe fn greatest(a: Self::V) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    unsafe fn transpose16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.add(i * from_stride));
            }
            // Within each quarter of 128 bits, 4×4 transposes of four rows at a time.
            let mut quarters = [_mm512_setzero_ps(); 16];
            for i in 0..4 {
                let low01 = _mm512_unpacklo_ps(rows[4 * i], rows[4 * i + 1]);
                let high01 = _mm512_unpackhi_ps(rows[4 * i], rows[4 * i + 1]);
                let low23 = _mm512_unpacklo_ps(rows[4 * i + 2], rows[4 * i + 3]);
                let high23 = _mm512_unpackhi_ps(rows[4 * i + 2], rows[4 * i + 3]);
                quarters[4 * i] = _mm512_shuffle_ps::<0x44>(low01, low23);
                quarters[4 * i + 1] = _mm512_shuffle_ps::<0xee>(low01, low23);
                quarters[4 * i + 2] = _mm512_shuffle_ps::<0x44>(high01, high23);
                quarters[4 * i + 3] = _mm512_shuffle_ps::<0xee>(high01, high23);
            }
            // quarters[4·i + j], quarter q = rows 4i..4i+4 of column 4q + j. Gather over i.
            for j in 0..4 {
                let (a, b) = (quarters[j], quarters[4 + j]);
                let (c, d) = (quarters[8 + j], quarters[12 + j]);
                let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
                let ab_odd = _mm512_shuffle_f32x4::<0xdd>(a, b);
                let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
                let cd_odd = _mm512_shuffle_f32x4::<0xdd>(c, d);
                let column = |q: usize| to.add((4 * q + j) * to_stride);
                _mm512_storeu_ps(column(0), _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even));
                _mm512_storeu_ps(column(2), _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even));
                _mm512_storeu_ps(column(1), _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd));
                _mm512_storeu_ps(column(3), _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd));
            }
        }
    }
}
