//! The sum of gradients over ranks: by the tree of [`reduction`](super::reduction), so that its bytes
//! do not depend on how many ranks there are, nor on who computed what.
//!
//! Each rank owns an equal slice of all values. It gets that slice of the subtrees' sums that the
//! others hold, adds them in the tree's order, and sends the total to everyone. So a rank sends as
//! much as its subtrees and one sum of gradients have, whatever the number of ranks, and no rank has
//! more to do than another.

use super::objective::LossGradients;
use super::reduction::{Addend, TreeSum, subtrees};
use crate::error::Result;
use crate::ranks::{Group, part};
use crate::unet::add_values;
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

/// Words of a loss, in `f64`.
const LOSS_WORDS: usize = 2;

/// The loss and some of the gradients, one after the other.
struct Slice {
    loss: f64,
    values: Vec<f32>,
}

impl Addend for Slice {
    fn add(&mut self, right: Self) {
        self.loss += right.loss;
        add_values(&mut self.values, &right.values);
    }
}

/// The sum over all micro-batches, the same at every rank. Rank r of `group` has added the
/// micro-batches `shares[r]` to its `own`; parameters have `lens` values. A few words go along: what
/// each rank says in `words`, the same number at each, comes back in the order of ranks.
///
/// # Errors
/// When a rank is gone.
pub(super) fn summed(
    group: &dyn Group,
    shares: &[Range<usize>],
    lens: &[usize],
    own: TreeSum<LossGradients>,
    words: &[u32],
) -> Result<(LossGradients, Vec<Vec<u32>>)> {
    let (rank, size) = (group.rank(), group.size());
    let n_leaves = shares.last().map_or(0, |share| share.end);
    let n_values = lens.iter().sum();
    let slice_of = |rank| part(n_values, rank, size);
    let slice = slice_of(rank);
    let own: Vec<(Range<usize>, LossGradients)> = own.into_subtrees().collect();
    let mut total = TreeSum::new(n_leaves);
    for (leaves, sum) in &own {
        let mut values = Vec::with_capacity(slice.len());
        append(&sum.gradients, slice.clone(), &mut |piece| values.extend_from_slice(piece));
        total.add(leaves.clone(), Slice { loss: sum.loss, values });
    }
    let mut said = vec![Vec::new(); size];
    said[rank] = words.to_vec();
    for distance in 1..size {
        let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
        let mut message: Vec<u32> = words.to_vec();
        message.reserve(own.len() * (LOSS_WORDS + slice_of(to).len()));
        for (_, sum) in &own {
            let loss = sum.loss.to_bits();
            message.extend([loss as u32, (loss >> 32) as u32]);
            append(&sum.gradients, slice_of(to), &mut |piece| {
                message.extend_from_slice(cast_slice(piece));
            });
        }
        let parts = subtrees(n_leaves, shares[from].clone());
        let part_len = LOSS_WORDS + slice.len();
        let mut received = vec![0u32; words.len() + parts.len() * part_len];
        group.exchange(to, cast_slice(&message), from, cast_slice_mut(&mut received))?;
        drop(message);
        let (theirs, sums) = received.split_at(words.len());
        said[from] = theirs.to_vec();
        for (leaves, sum) in parts.into_iter().zip(sums.chunks_exact(part_len)) {
            let (loss, values) = sum.split_at(LOSS_WORDS);
            let loss = f64::from_bits(u64::from(loss[0]) | u64::from(loss[1]) << 32);
            total.add(leaves, Slice { loss, values: cast_slice(values).to_vec() });
        }
    }
    let Slice { loss, values } = total.into_total().expect("every micro-batch has a rank");

    // Where the sum of an own subtree was, the total goes.
    let gradients = own.into_iter().next().map(|(_, sum)| sum.gradients);
    let mut gradients =
        gradients.unwrap_or_else(|| lens.iter().map(|&len| vec![0.0; len]).collect());
    fill(&mut gradients, slice, &values);
    for distance in 1..size {
        let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
        let mut received = vec![0.0f32; slice_of(from).len()];
        group.exchange(to, cast_slice(&values), from, cast_slice_mut(&mut received))?;
        fill(&mut gradients, slice_of(from), &received);
    }
    Ok((LossGradients { loss, gradients }, said))
}

/// Calls `take` with the values in `range` of all parameters, one after the other, piece by piece.
fn append(parameters: &[Vec<f32>], range: Range<usize>, take: &mut dyn FnMut(&[f32])) {
    let mut start = 0;
    for values in parameters {
        if let Some(piece) = overlap(start, values.len(), &range) {
            take(&values[piece]);
        }
        start += values.len();
    }
}

/// The other way: puts `values` in the place of those in `range`.
fn fill(parameters: &mut [Vec<f32>], range: Range<usize>, values: &[f32]) {
    let (mut start, mut rest) = (0, values);
    for parameter in parameters {
        if let Some(piece) = overlap(start, parameter.len(), &range) {
            let (these, others) = rest.split_at(piece.len());
            parameter[piece].copy_from_slice(these);
            rest = others;
        }
        start += parameter.len();
    }
}

/// The part of `range` in a parameter whose `len` values begin at `start`, counted from there.
fn overlap(start: usize, len: usize, range: &Range<usize>) -> Option<Range<usize>> {
    let (from, to) = (range.start.max(start), range.end.min(start + len));
    (from < to).then(|| from - start..to - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::together;
    use crate::train::reduction::shares;

    const LENS: [usize; 4] = [5, 0, 1, 9];

    /// Magnitudes that differ by 10^12, so that another order has another sum.
    fn leaf(k: usize) -> LossGradients {
        let value = |n: usize| {
            let bits = ((k * 31 + n) as u64 + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (bits as f32 / u64::MAX as f32 - 0.5) * 10f32.powi((bits % 13) as i32)
        };
        let mut n = 0;
        let gradients = LENS.map(|len| {
            n += len;
            (n - len..n).map(value).collect()
        });
        LossGradients { loss: f64::from(value(99)), gradients: gradients.into() }
    }

    fn sum_of(n_leaves: usize, leaves: Range<usize>) -> TreeSum<LossGradients> {
        let mut sum = TreeSum::new(n_leaves);
        leaves.for_each(|k| sum.add(k..k + 1, leaf(k)));
        sum
    }

    #[test]
    fn any_number_of_ranks_has_the_same_sum() {
        for n_leaves in 1..=17 {
            let expected = sum_of(n_leaves, 0..n_leaves).into_total().unwrap();
            for size in [1, 2, 3, 4, 5, 8, 20] {
                let shares = shares(n_leaves, size);
                let found = together(size, |group| {
                    let own = sum_of(n_leaves, shares[group.rank()].clone());
                    summed(group, &shares, &LENS, own, &[group.rank() as u32, 7]).unwrap()
                });
                for (sum, said) in found {
                    assert_eq!(sum.loss.to_bits(), expected.loss.to_bits());
                    assert!(sum == expected, "{n_leaves} micro-batches, {size} ranks");
                    let expected: Vec<Vec<u32>> = (0..size as u32).map(|r| vec![r, 7]).collect();
                    assert_eq!(said, expected);
                }
            }
        }
    }
}
