//! The inverse cosine transform of a block of 8×8 coefficients.
//!
//! The fast algorithm of Loeffler, Ligtenberg and Moschytz (1989) with 11 multiplications a line,
//! in fixed point with the rounding that libjpeg's `islow` transform defines, so that the samples
//! are those of every program that uses libjpeg.

/// Fractional bits of the constants.
const CONST_BITS: u32 = 13;
/// Fractional bits that the columns' results keep for the pass over rows.
const PASS1_BITS: u32 = 2;

const FIX_0_298: i64 = 2446;
const FIX_0_390: i64 = 3196;
const FIX_0_541: i64 = 4433;
const FIX_0_765: i64 = 6270;
const FIX_0_899: i64 = 7373;
const FIX_1_175: i64 = 9633;
const FIX_1_501: i64 = 12299;
const FIX_1_847: i64 = 15137;
const FIX_1_961: i64 = 16069;
const FIX_2_053: i64 = 16819;
const FIX_2_562: i64 = 20995;
const FIX_3_072: i64 = 25172;

/// Dequantizes `coefficients` (row-major) by `table` (row-major) and writes the 8×8 samples to
/// `plane` from `start` on, rows `stride` apart.
pub(super) fn block_to_samples(
    coefficients: &[i16; 64],
    table: &[u16; 64],
    plane: &mut [u8],
    start: usize,
    stride: usize,
) {
    if coefficients[1..].iter().all(|&value| value == 0) {
        // What the general path gives for a flat block.
        let flat = i64::from(coefficients[0]) * i64::from(table[0]);
        let value = sample((flat << PASS1_BITS) << CONST_BITS);
        for row in 0..8 {
            plane[start + row * stride..][..8].fill(value);
        }
        return;
    }
    // 64 bits: hostile files hold coefficients of 16 bits and tables of 16 bits.
    let mut columns = [0i64; 64];
    for x in 0..8 {
        let line = std::array::from_fn(|y| {
            i64::from(coefficients[y * 8 + x]) * i64::from(table[y * 8 + x])
        });
        for (y, value) in transform(line).into_iter().enumerate() {
            columns[y * 8 + x] = descale(value, CONST_BITS - PASS1_BITS);
        }
    }
    for (y, line) in columns.as_chunks::<8>().0.iter().enumerate() {
        let row = &mut plane[start + y * stride..][..8];
        for (value, into) in transform(*line).into_iter().zip(row) {
            *into = sample(value);
        }
    }
}

/// A value of the second pass to a sample: around 128 in place of 0.
fn sample(value: i64) -> u8 {
    (descale(value, CONST_BITS + PASS1_BITS + 3) + 128).clamp(0, 255) as u8
}

fn descale(value: i64, bits: u32) -> i64 {
    (value + (1 << (bits - 1))) >> bits
}

/// One line of eight, times √8 · 2^CONST_BITS.
fn transform(line: [i64; 8]) -> [i64; 8] {
    // Even part.
    let z1 = (line[2] + line[6]) * FIX_0_541;
    let tmp2 = z1 - line[6] * FIX_1_847;
    let tmp3 = z1 + line[2] * FIX_0_765;
    let tmp0 = (line[0] + line[4]) << CONST_BITS;
    let tmp1 = (line[0] - line[4]) << CONST_BITS;
    let even = [tmp0 + tmp3, tmp1 + tmp2, tmp1 - tmp2, tmp0 - tmp3];

    // Odd part.
    let [y7, y5, y3, y1] = [line[7], line[5], line[3], line[1]];
    let z5 = (y7 + y3 + y5 + y1) * FIX_1_175;
    let z1 = -(y7 + y1) * FIX_0_899;
    let z2 = -(y5 + y3) * FIX_2_562;
    let z3 = -(y7 + y3) * FIX_1_961 + z5;
    let z4 = -(y5 + y1) * FIX_0_390 + z5;
    let odd = [
        y1 * FIX_1_501 + z1 + z4,
        y3 * FIX_3_072 + z2 + z3,
        y5 * FIX_2_053 + z2 + z4,
        y7 * FIX_0_298 + z1 + z3,
    ];
    std::array::from_fn(|k| if k < 4 { even[k] + odd[k] } else { even[7 - k] - odd[7 - k] })
}
