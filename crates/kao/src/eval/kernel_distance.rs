//! The kernel distance of two sets of images by their features (Bińkowski et al. 2018, "Demystifying
//! MMD GANs"): the unbiased estimate of the squared maximum mean discrepancy under the kernel
//! (x·y/d + 1)³, as the kernel inception distance has it, on features of Kao's own classifier.
//!
//! Values compare with each other, not with published ones, whose features are others.

use crate::error::{Error, Result};
use rayon::prelude::*;

/// The bound of a scaled feature; those of real images are of the order of 1.
const FAR: f64 = 4.0;

/// How features are scaled before they are compared: each to mean 0 and standard deviation 1 over a
/// set of real images. What is far away counts less and less, up to a bound, so that a few features
/// do not decide alone.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureScale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl FeatureScale {
    /// The scale of a set of real images, given by its features `[N, d]`.
    ///
    /// # Errors
    /// When there are fewer than 2 images, or the length is no multiple of `d`.
    pub fn of(features: &[f32], d: usize) -> Result<Self> {
        let n = count("images", features, d)?;
        let mut mean = vec![0.0; d];
        let mut deviation = vec![0.0; d];
        for row in features.chunks_exact(d) {
            row.iter().zip(&mut mean).for_each(|(&value, sum)| *sum += f64::from(value));
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        for row in features.chunks_exact(d) {
            for ((&value, mean), sum) in row.iter().zip(&mean).zip(&mut deviation) {
                *sum += (f64::from(value) - mean).powi(2);
            }
        }
        deviation.iter_mut().for_each(|sum| *sum = (*sum / n as f64).sqrt());
        Ok(FeatureScale { mean, deviation })
    }

    /// Features `[N, d]` at this scale. A feature that is the same in all real images stays as far
    /// from them as it is.
    pub fn apply(&self, features: &[f32]) -> Vec<f64> {
        let d = self.mean.len().max(1);
        let scaled = features.iter().enumerate().map(|(k, &value)| {
            let deviation = self.deviation[k % d];
            let deviation = if deviation > 0.0 { deviation } else { 1.0 };
            let z = (f64::from(value) - self.mean[k % d]) / deviation;
            z / (1.0 + z.abs() / FAR)
        });
        scaled.collect()
    }
}

/// The distance of two sets given by their scaled features `[N, d]` and `[M, d]`. It is an unbiased
/// estimate, so that of equal sets is 0 on average and may be below.
///
/// # Errors
/// When a set has fewer than 2 images, or a length is no multiple of `d`.
pub fn kernel_distance(a: &[f64], b: &[f64], d: usize) -> Result<f64> {
    let (n, m) = (count("samples", a, d)? as f64, count("data", b, d)? as f64);
    let (aa, bb, ab) = (sum(a, a, d, true), sum(b, b, d, true), sum(a, b, d, false));
    Ok(aa / (n * (n - 1.0)) + bb / (m * (m - 1.0)) - 2.0 * ab / (n * m))
}

fn count<T>(set: &str, features: &[T], d: usize) -> Result<usize> {
    if d == 0 || !features.len().is_multiple_of(d) || features.len() / d < 2 {
        let found = features.len() / d.max(1);
        return Err(Error::invalid(set, format!("{found} images found; expected at least 2")));
    }
    Ok(features.len() / d)
}

/// The sum of the kernel over all pairs, without those of an image with itself where `is_same`. Rows
/// are summed one after the other, whatever the number of threads.
fn sum(a: &[f64], b: &[f64], d: usize, is_same: bool) -> f64 {
    let row = |(i, x): (usize, &[f64])| {
        let others = b.chunks_exact(d).enumerate().filter(|(j, _)| !is_same || *j != i);
        others.map(|(_, y)| (dot(x, y) / d as f64 + 1.0).powi(3)).sum::<f64>()
    };
    let rows: Vec<f64> = a.par_chunks_exact(d).enumerate().map(row).collect();
    rows.iter().sum()
}

/// The scalar product, as eight sums side by side.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (x_parts, y_parts) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: f64 = x_parts.remainder().iter().zip(y_parts.remainder()).map(|(a, b)| a * b).sum();
    for (x, y) in x_parts.zip(y_parts) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Purpose, Stream};

    /// `n` images of 5 features, normal with this mean.
    fn features(n: usize, mean: f32, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; 5 * n];
        Stream::new(seed, Purpose::Sampling, 0, 0).fill_normal(&mut values);
        values.iter_mut().for_each(|value| *value += mean);
        values
    }

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        let scale = FeatureScale::of(b, 5).unwrap();
        kernel_distance(&scale.apply(a), &scale.apply(b), 5).unwrap()
    }

    /// The sums as they are written in the paper.
    #[test]
    fn it_is_the_sum_over_all_pairs() {
        let (a, b) = ([0.5, -1.0, 2.0, 0.0], [1.0, 1.0, 0.0, -2.0, 0.5, 0.5]);
        let k = |x: [f64; 2], y: [f64; 2]| ((x[0] * y[0] + x[1] * y[1]) / 2.0 + 1.0).powi(3);
        let [a0, a1] = [[0.5, -1.0], [2.0, 0.0]];
        let [b0, b1, b2] = [[1.0, 1.0], [0.0, -2.0], [0.5, 0.5]];
        let aa = 2.0 * k(a0, a1) / 2.0;
        let bb = 2.0 * (k(b0, b1) + k(b0, b2) + k(b1, b2)) / 6.0;
        let ab = [a0, a1].map(|x| k(x, b0) + k(x, b1) + k(x, b2)).iter().sum::<f64>() / 6.0;
        let found = kernel_distance(&a, &b, 2).unwrap();
        assert!((found - (aa + bb - 2.0 * ab)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn equal_sets_are_at_zero_on_average_and_others_further_the_more_they_differ() {
        let real = features(200, 0.0, 1);
        let n = 40;
        let equal = (0..n).map(|k| distance(&features(60, 0.0, 2 + k), &real)).sum::<f64>();
        assert!((equal / n as f64).abs() < 0.02, "{}", equal / n as f64);
        let [near, far] = [0.5, 1.0].map(|mean| distance(&features(200, mean, 99), &real));
        assert!(0.05 < near && 2.0 * near < far, "{near} {far}");
    }

    #[test]
    fn sets_that_are_none_are_refused() {
        for (a, b, d) in [(5, 10, 5), (10, 5, 5), (11, 10, 5), (10, 10, 0)] {
            assert!(kernel_distance(&vec![0.0; a], &vec![0.0; b], d).is_err(), "{a} {b} {d}");
        }
        // One that never varies is left as far away as it is.
        let scale = FeatureScale::of(&[3.0, 1.0, 3.0, 2.0], 2).unwrap();
        assert_eq!(scale.apply(&[3.0, 1.5]), [0.0, 0.0]);
    }
}
