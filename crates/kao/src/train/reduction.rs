//! Sums whose bytes do not depend on who computes which part.
//!
//! Rounding makes the order of additions visible in the last bits of a sum, so that order has to be
//! fixed. Here it is a binary tree over the parts (for training: the micro-batches of a step, in
//! order). Its shape depends on the number of parts alone: of n > 1 leaves, the left subtree holds
//! the first 2^k, the largest power of two below n, and the right subtree holds the rest. The sum of
//! a subtree is the sum of its left child plus that of its right child. Whoever has both adds them:
//! one process that computes the parts in order, or several that exchange sums of complete subtrees.
//!
//! This module knows neither networks nor gradients, and moves nothing between processes.

use std::collections::BTreeMap;
use std::ops::Range;

/// A value that can be summed.
pub trait Addend {
    /// Adds `right` to `self`. The result must depend on the two values alone.
    fn add(&mut self, right: Self);
}

/// A sum over the leaves of the tree, as far as its parts are known.
///
/// When leaves are added in order, at most log₂ n + 1 values are held at a time, as in a binary
/// counter.
#[derive(Clone, Debug)]
pub struct TreeSum<T> {
    n_leaves: usize,
    /// The sums of complete subtrees whose sibling is not known yet: by first leaf, the end of the
    /// range of leaves, and the sum.
    subtrees: BTreeMap<usize, (usize, T)>,
}

impl<T: Addend> TreeSum<T> {
    /// A sum over `n_leaves` leaves, none of which is known yet.
    pub fn new(n_leaves: usize) -> Self {
        TreeSum { n_leaves, subtrees: BTreeMap::new() }
    }

    /// Adds the sum of the subtree over `leaves`; leaf k alone is `k..k + 1`.
    ///
    /// # Panics
    /// When the tree has no such subtree, or one of the leaves was added before.
    pub fn add(&mut self, leaves: Range<usize>, sum: T) {
        let before = self.subtrees.range(..leaves.end).next_back();
        assert!(before.is_none_or(|(_, (end, _))| *end <= leaves.start), "leaves added twice");
        let (mut node, mut sum) = (leaves, sum);
        while let Some(sibling) = sibling(self.n_leaves, &node) {
            let is_known = |(end, _): &(usize, T)| *end == sibling.end;
            if !self.subtrees.get(&sibling.start).is_some_and(is_known) {
                break;
            }
            let (_, other) = self.subtrees.remove(&sibling.start).expect("it is known");
            let (mut left, right) =
                if sibling.start < node.start { (other, sum) } else { (sum, other) };
            left.add(right);
            sum = left;
            node = node.start.min(sibling.start)..node.end.max(sibling.end);
        }
        self.subtrees.insert(node.start, (node.end, sum));
    }

    /// The complete subtrees that are known, in the order of their leaves, with their sums: what
    /// one process hands to another, which [`add`](Self::add)s them.
    pub fn into_subtrees(self) -> impl Iterator<Item = (Range<usize>, T)> {
        self.subtrees.into_iter().map(|(start, (end, sum))| (start..end, sum))
    }

    /// The sum over all leaves; `None` as long as one is not known.
    pub fn into_total(mut self) -> Option<T> {
        let (end, sum) = self.subtrees.remove(&0)?;
        (end == self.n_leaves).then_some(sum)
    }
}

/// The most values that [`TreeSum`] holds besides the next one when leaves are added in order.
pub fn max_held(n_leaves: usize) -> u32 {
    // Before leaf k is added there is one subtree for each binary one of k, and k is below n.
    n_leaves.checked_ilog2().unwrap_or(0)
}

/// The complete subtrees that `leaves` consists of, as few as there can be, in order: those that a
/// [`TreeSum`] holds once all of `leaves` are added.
pub fn subtrees(n_leaves: usize, leaves: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // Those still to be looked at, the first on top.
    let mut nodes = Vec::new();
    nodes.push(0..n_leaves);
    while let Some(node) = nodes.pop() {
        if node.end <= leaves.start || leaves.end <= node.start || node.is_empty() {
            continue;
        }
        if leaves.start <= node.start && node.end <= leaves.end {
            found.push(node);
            continue;
        }
        let middle = node.start + largest_power_of_two_below(node.len());
        nodes.push(middle..node.end);
        nodes.push(node.start..middle);
    }
    found
}

/// Which leaves each of `n_workers` computes, in order, so that none has more than it must, and the
/// sums that they have to exchange are few: of what is possible, that in which the worker with the
/// most subtrees has the fewest, and then all of them together.
///
/// # Panics
/// When there are no workers.
pub fn shares(n_leaves: usize, n_workers: usize) -> Vec<Range<usize>> {
    let most = n_leaves.div_ceil(n_workers);
    // For each worker and each first leaf from which it and those after it can do the rest: how many
    // subtrees the worst of them has and all of them have, and how many leaves it takes.
    let mut best: Vec<BTreeMap<usize, (usize, usize, usize)>> = vec![BTreeMap::new(); n_workers];
    for worker in (0..n_workers).rev() {
        let after = n_workers - worker;
        let least_start = n_leaves.saturating_sub(after * most);
        for start in least_start..=n_leaves.min(worker * most) {
            let choices = (0..=most.min(n_leaves - start)).filter_map(|n| {
                let (worst, all) = match best.get(worker + 1) {
                    Some(rest) => rest.get(&(start + n)).map(|&(worst, all, _)| (worst, all))?,
                    None => (start + n == n_leaves).then_some((0, 0))?,
                };
                let own = subtrees(n_leaves, start..start + n).len();
                Some((worst.max(own), all + own, n))
            });
            // Of equals, the one in which the first workers have more.
            let chosen = choices.min_by_key(|&(worst, all, n)| (worst, all, std::cmp::Reverse(n)));
            if let Some(chosen) = chosen {
                best[worker].insert(start, chosen);
            }
        }
    }
    let mut start = 0;
    best.iter()
        .map(|of_worker| {
            let n = of_worker[&start].2;
            start += n;
            start - n..start
        })
        .collect()
}

/// The other child of the parent of `node` in the tree of `n_leaves` leaves; `None` for the root.
///
/// # Panics
/// When the tree has no such node.
fn sibling(n_leaves: usize, node: &Range<usize>) -> Option<Range<usize>> {
    let mut parent = 0..n_leaves;
    if *node == parent {
        return None;
    }
    loop {
        let len = parent.len();
        assert!(len > 1, "the tree of {n_leaves} leaves has no subtree {node:?}");
        let middle = parent.start + largest_power_of_two_below(len);
        let (left, right) = (parent.start..middle, middle..parent.end);
        if *node == left {
            return Some(right);
        }
        if *node == right {
            return Some(left);
        }
        parent = if node.start < middle { left } else { right };
    }
}

/// For `n` of at least 2.
fn largest_power_of_two_below(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sum that shows how it was computed.
    impl Addend for String {
        fn add(&mut self, right: Self) {
            *self = format!("({self}+{right})");
        }
    }

    impl Addend for f32 {
        fn add(&mut self, right: Self) {
            *self += right;
        }
    }

    fn in_order<T: Addend>(leaves: impl ExactSizeIterator<Item = T>) -> T {
        let mut sum = TreeSum::new(leaves.len());
        leaves.enumerate().for_each(|(k, leaf)| sum.add(k..k + 1, leaf));
        sum.into_total().unwrap()
    }

    #[test]
    fn the_shape_depends_on_the_number_of_leaves() {
        let expected = [
            "0",
            "(0+1)",
            "((0+1)+2)",
            "((0+1)+(2+3))",
            "(((0+1)+(2+3))+4)",
            "(((0+1)+(2+3))+(4+5))",
            "(((0+1)+(2+3))+((4+5)+6))",
        ];
        for (n, expected) in (1..).zip(expected) {
            assert_eq!(in_order((0..n).map(|k: usize| k.to_string())), expected);
        }
    }

    #[test]
    fn few_values_are_held_at_a_time() {
        for n in 1..=70 {
            let mut sum = TreeSum::new(n);
            let mut most = 0;
            for k in 0..n {
                most = most.max(sum.subtrees.len());
                sum.add(k..k + 1, 1.0f32);
            }
            assert_eq!(most as u32, max_held(n), "{n} leaves");
            assert_eq!(sum.into_total(), Some(n as f32));
        }
    }

    #[test]
    fn a_sum_is_known_when_all_its_leaves_are() {
        let mut sum = TreeSum::new(3);
        assert_eq!(sum.clone().into_total(), None);
        sum.add(2..3, 1.0f32);
        assert_eq!(sum.clone().into_total(), None);
        sum.add(0..2, 2.0);
        assert_eq!(sum.into_total(), Some(3.0));
    }

    #[test]
    #[should_panic(expected = "no subtree 1..3")]
    fn what_is_no_subtree_is_refused() {
        TreeSum::new(4).add(1..3, 0.0f32);
    }

    #[test]
    #[should_panic(expected = "added twice")]
    fn a_leaf_counts_once() {
        let mut sum = TreeSum::new(4);
        sum.add(0..2, 0.0f32);
        sum.add(1..2, 0.0);
    }

    #[test]
    fn shares_are_even_and_whole_subtrees_where_that_can_be() {
        let of = |n, n_workers| {
            let shares = shares(n, n_workers);
            assert_eq!(shares.len(), n_workers);
            assert_eq!((shares[0].start, shares[n_workers - 1].end), (0, n));
            assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
            let most = shares.iter().map(|share| share.len()).max().unwrap();
            assert_eq!(most, n.div_ceil(n_workers), "{n} leaves, {n_workers} workers");
            shares
        };
        for n in 1..70 {
            for n_workers in 1..20 {
                of(n, n_workers);
            }
        }
        assert_eq!(of(8, 4), [0..2, 2..4, 4..6, 6..8]);
        assert_eq!(of(6, 4), [0..2, 2..4, 4..6, 6..6]);
        assert_eq!(of(2, 4), [0..1, 1..2, 2..2, 2..2]);
        let n_subtrees = |n, n_workers| -> Vec<usize> {
            of(n, n_workers).into_iter().map(|share| subtrees(n, share).len()).collect()
        };
        assert_eq!(n_subtrees(8, 3).iter().sum::<usize>(), 5);
        assert_eq!(n_subtrees(8, 3).into_iter().max(), Some(2));
        assert_eq!(n_subtrees(64, 16), [1; 16]);
        assert_eq!(of(4096, 64)[63], 4032..4096);
    }

    #[test]
    fn a_sum_holds_the_subtrees_that_are_foretold() {
        for n in 1..40 {
            for start in 0..n {
                for end in start..=n {
                    let mut sum = TreeSum::new(n);
                    (start..end).for_each(|k| sum.add(k..k + 1, 1.0f32));
                    let held: Vec<_> = sum.into_subtrees().map(|(leaves, _)| leaves).collect();
                    assert_eq!(subtrees(n, start..end), held, "{start}..{end} of {n}");
                }
            }
        }
    }

    /// For each leaf the worker that computes it; an order of leaves; an order of subtrees.
    fn assignments() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, u64)> {
        (1..40usize, 1..9usize).prop_flat_map(|(n, n_workers)| {
            let workers = prop::collection::vec(0..n_workers, n);
            let order = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
            (workers, order, any::<u64>())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Workers compute the leaves assigned to them in any order, and hand the sums of their
        /// complete subtrees over in any order.
        #[test]
        fn it_does_not_matter_who_computes_what((workers, order, seed) in assignments()) {
            let n = workers.len();
            // Magnitudes that differ by 10^12, so that another order has another sum.
            let value = |k: usize| {
                let bits = seed.wrapping_add(k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                (bits as f32 / u64::MAX as f32 - 0.5) * 10f32.powi((bits % 13) as i32)
            };
            let n_workers = workers.iter().max().unwrap() + 1;
            let mut sums = vec![(TreeSum::new(n), TreeSum::new(n)); n_workers];
            for &k in &order {
                let (words, values) = &mut sums[workers[k]];
                words.add(k..k + 1, k.to_string());
                values.add(k..k + 1, value(k));
            }
            let (mut words, mut values) = (TreeSum::new(n), TreeSum::new(n));
            let first = seed as usize % n_workers;
            for worker in 0..n_workers {
                let (w, v) = sums[(first + worker) % n_workers].clone();
                w.into_subtrees().for_each(|(leaves, sum)| words.add(leaves, sum));
                v.into_subtrees().for_each(|(leaves, sum)| values.add(leaves, sum));
            }
            prop_assert_eq!(words.into_total().unwrap(), in_order((0..n).map(|k| k.to_string())));
            let expected: f32 = in_order((0..n).map(value));
            prop_assert_eq!(values.into_total().unwrap().to_bits(), expected.to_bits());
        }
    }
}
