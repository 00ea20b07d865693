//! Muon (Jordan et al. 2024): the momentum of a weight matrix, orthogonalized.
//!
//! The gradient of a matrix is dominated by few directions; the update by its nearest orthogonal
//! matrix moves all directions by as much. That matrix is not computed exactly: five Newton–Schulz
//! steps bring the singular values near 1, which is enough. The update is scaled as Liu et al. 2025
//! do, so that its root mean square is about that of Adam's updates: learning rate and weight decay
//! mean the same for both.

use crate::conv1x1::{LinearShape, linear, linear_weight_grad};
use crate::operands::length;
use crate::profile::Timed;

/// The share of the momentum that remains.
pub(crate) const MOMENTUM: f32 = 0.95;
/// The polynomial of a step, `aσ + bσ³ + cσ⁵`: steep at zero, and staying near 1 once there.
pub(crate) const POLYNOMIAL: [f32; 3] = [3.4445, -4.775, 2.0315];
pub(crate) const N_ITERATIONS: usize = 5;
/// Root mean square of an update at a learning rate of 1.
pub(crate) const UPDATE_RMS: f32 = 0.2;
/// Against a division by zero.
const EPSILON: f32 = 1e-12;

/// One step of Muon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonStep {
    /// Learning rate.
    pub lr: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// What every gradient is multiplied by first.
    pub gradient_scale: f32,
}

/// Updates parameters `p`, a matrix of `shape` (rows and columns) row by row, and its momentum `m`, an
/// average of gradients, in place, given gradients `g`.
///
/// # Panics
/// If a length does not fit.
pub fn muon_step(muon: &MuonStep, shape: [usize; 2], p: &mut [f32], g: &[f32], m: &mut [f32]) {
    let _timed = Timed::start("muon_step", shape);
    assert_eq!(p.len(), length(shape), "length of the parameters");
    assert_eq!(p.len(), g.len(), "lengths of parameters and gradients");
    assert_eq!(p.len(), m.len(), "lengths of parameters and momentum");
    // Nesterov's: one step ahead of the average.
    let ahead = m.iter_mut().zip(g).map(|(average, gradient)| {
        let gradient = muon.gradient_scale * gradient;
        *average += (1.0 - MOMENTUM) * (gradient - *average);
        gradient + MOMENTUM * (*average - gradient)
    });
    let ahead: Vec<f32> = ahead.collect();
    let update = orthogonalized(shape, &ahead);
    let longer = shape[0].max(shape[1]) as f32;
    let rate = muon.lr * UPDATE_RMS * longer.sqrt();
    let keep = 1.0 - muon.lr * muon.weight_decay;
    for (value, update) in p.iter_mut().zip(&update) {
        *value = keep * *value - rate * update;
    }
}

/// The matrix whose singular vectors are those of `matrix`, and whose singular values are near 1
/// (0.7 to 1.2) where those of `matrix` are not tiny beside its norm.
fn orthogonalized([rows, columns]: [usize; 2], matrix: &[f32]) -> Vec<f32> {
    if rows < columns {
        let tall = transposed([rows, columns], matrix);
        return transposed([columns, rows], &orthogonalized([columns, rows], &tall));
    }
    let norm = matrix.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
    let scale = 1.0 / (norm + EPSILON);
    let x: Vec<f32> = matrix.iter().map(|value| scale * value).collect();
    // X = QX₀ all along, and everything in between is a polynomial of the small matrix X₀ᵀX₀: only
    // its size, not that of X, is worked on in each iteration.
    let n = columns;
    let mut gram = product_of_transposed([rows, n], &x);
    let mut q: Option<Vec<f32>> = None;
    for iteration in 0..N_ITERATIONS {
        let [a, b, c] = POLYNOMIAL;
        let square = product([n, n, n], &gram, &gram);
        let mut step: Vec<f32> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        step.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal += a);
        if iteration + 1 < N_ITERATIONS {
            gram = product([n, n, n], &product([n, n, n], &step, &gram), &step);
        }
        q = Some(match q {
            None => step,
            Some(q) => product([n, n, n], &q, &step),
        });
    }
    product([rows, n, n], &x, &q.expect("there are iterations"))
}

/// `a · b` of matrices with `[rows, inner]` and `[inner, columns]`.
fn product([rows, inner, columns]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    linear(LinearShape { rows, c_in: inner, c_out: columns }, a, b, None, out.as_mut_slice());
    out
}

/// `aᵀ · a`.
fn product_of_transposed([rows, columns]: [usize; 2], a: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; columns * columns];
    let shape = LinearShape { rows, c_in: columns, c_out: columns };
    linear_weight_grad(shape, a, a, out.as_mut_slice());
    out
}

fn transposed([rows, columns]: [usize; 2], matrix: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows * columns];
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values between -1 and 1 that repeat in no short period.
    fn values(n: usize, from: usize) -> Vec<f32> {
        (from..from + n).map(|k| (k as f32 * 12.9898).sin() * 43_758.547 % 1.0).collect()
    }

    #[test]
    fn what_comes_out_is_nearly_orthogonal_whatever_the_sizes_of_the_directions() {
        let [rows, columns] = [96, 24];
        let mut matrix = values(rows * columns, 5);
        // Directions a hundred times apart.
        for row in matrix.chunks_exact_mut(columns) {
            for (k, value) in row.iter_mut().enumerate() {
                *value *= 100f32.powf(-(k as f32) / (columns - 1) as f32);
            }
        }
        let found = orthogonalized([rows, columns], &matrix);
        let gram = product_of_transposed([rows, columns], &found);
        for i in 0..columns {
            for j in 0..columns {
                let bounds = if i == j { 0.4..1.5 } else { -0.4..0.4 };
                assert!(bounds.contains(&gram[i * columns + j]), "{}", gram[i * columns + j]);
            }
        }
        assert_eq!(orthogonalized([8, 2], &[0.0; 16]), [0.0; 16]);
    }

    #[test]
    fn an_update_is_as_large_as_one_of_adam_and_lowers_what_it_descends() {
        let shape = [45, 20];
        let step = MuonStep { lr: 0.01, weight_decay: 0.0, gradient_scale: 1.0 };
        let target = values(900, 1);
        let (mut p, mut m) = (vec![0.0; 900], vec![0.0; 900]);
        let loss = |p: &[f32]| -> f32 { p.iter().zip(&target).map(|(a, b)| (a - b).powi(2)).sum() };
        let before = loss(&p);
        for k in 0..300 {
            let g: Vec<f32> = p.iter().zip(&target).map(|(a, b)| 2.0 * (a - b)).collect();
            muon_step(&step, shape, &mut p, &g, &mut m);
            if k == 0 {
                let rms = (p.iter().map(|x| x * x).sum::<f32>() / 900.0).sqrt();
                assert!((0.0015..0.0025).contains(&rms), "{rms}");
            }
        }
        assert!(loss(&p) < 0.5 * before, "{} of {before}", loss(&p));
    }
}
