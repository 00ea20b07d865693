//! Bicubic resampling, with the bytes that Pillow gives.
//!
//! The kernel is cubic with a = −1/2 and widens when the picture shrinks. The horizontal pass comes
//! first, and its result is rounded to bytes; weights are whole numbers of 1/2²². So a folder that
//! was prepared by a Python program and one that Kao prepared hold the same pixels. (Pillow 13 takes
//! the vertical pass of some pictures, mainly tall ones, first; single steps differ there.)

/// Bits after the point of a weight: sums of 8-bit values by weights up to about 1.3 fit 31 bits.
const PRECISION_BITS: u32 = 22;

/// How far the kernel reaches from its centre, in pixels of the coarser side.
const SUPPORT: f64 = 2.0;

/// Scales `bytes`, `[height, width, channels]`, to `to` (width, height).
pub(super) fn bicubic(
    bytes: &[u8],
    [width, height]: [usize; 2],
    channels: usize,
    to: [usize; 2],
) -> Vec<u8> {
    let row_len = to[0] * channels;
    let narrowed = match to[0] == width {
        true => bytes.to_vec(),
        false => {
            let columns = weights(width, to[0]);
            let mut narrowed = vec![0; height * row_len];
            let rows = bytes.chunks_exact(width * channels).zip(narrowed.chunks_exact_mut(row_len));
            rows.for_each(|(from, to)| scale_row(from, &columns, channels, to));
            narrowed
        }
    };
    if to[1] == height {
        return narrowed;
    }
    let mut scaled = vec![0; to[1] * row_len];
    let mut sums = vec![0i32; row_len];
    for (line, to) in weights(height, to[1]).iter().zip(scaled.chunks_exact_mut(row_len)) {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (k, &weight) in line.weights.iter().enumerate() {
            let from = &narrowed[(line.first + k) * row_len..][..row_len];
            for (sum, &value) in sums.iter_mut().zip(from) {
                *sum += i32::from(value) * weight;
            }
        }
        for (to, &sum) in to.iter_mut().zip(&sums) {
            *to = clipped(sum);
        }
    }
    scaled
}

fn scale_row(from: &[u8], columns: &[Weights], channels: usize, to: &mut [u8]) {
    for (column, to) in columns.iter().zip(to.chunks_exact_mut(channels)) {
        let from = from[column.first * channels..].chunks_exact(channels);
        let mut sums = [1i32 << (PRECISION_BITS - 1); 4];
        for (pixel, &weight) in from.zip(&column.weights) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        for (to, &sum) in to.iter_mut().zip(&sums) {
            *to = clipped(sum);
        }
    }
}

/// A sum of weighted values as a byte.
fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The pixels that one pixel of the result is made of.
struct Weights {
    /// The first of them.
    first: usize,
    /// In units of 2⁻²².
    weights: Vec<i32>,
}

/// The weights of every one of `to` pixels along a side of `from` pixels.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let widening = scale.max(1.0);
    let (reach, narrowing) = (SUPPORT * widening, 1.0 / widening);
    let of_pixel = |x: usize| {
        let centre = (x as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |k: usize| cubic((k as f64 - centre + 0.5) * narrowing);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: f64| (weight / total * f64::from(1 << PRECISION_BITS)).round() as i32;
        Weights { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(of_pixel).collect()
}

/// The cubic convolution kernel of Keys 1981 with a = −1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
