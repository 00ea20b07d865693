//! The pictures most like a picture, by the mean squared difference of their bytes.
//!
//! Every pair is looked at, in whole numbers, so that the answer is exact; a pair is left as soon
//! as it is farther apart than what was found before.

use crate::control::{Control, Report};
use crate::error::{Error, Result};
use kao_kernels::squared_distance_below;
use rayon::prelude::*;
use serde::Serialize;

/// Pictures that are compared with a candidate while it is in the cache.
const QUERIES_TOGETHER: usize = 16;

/// A candidate, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Position among the candidates.
    pub index: usize,
    /// Root of the mean squared difference of two bytes, 0 to 255.
    pub rms: f64,
}

/// Finds for each of `queries` its `n_nearest` among `candidates` (fewer where there are fewer),
/// nearest first; of equally near ones, the earlier first. Pictures are bytes, all in the same
/// layout.
///
/// # Errors
/// When pictures differ in size, or `control`, which gets the number of pictures done, stops the
/// work.
pub fn nearest(
    queries: &[&[u8]],
    candidates: &[&[u8]],
    n_nearest: usize,
    control: &dyn Control,
) -> Result<Vec<Vec<Neighbour>>> {
    let all = || queries.iter().chain(candidates);
    let n_bytes = all().next().map_or(0, |first| first.len());
    if let Some(other) = all().find(|other| other.len() != n_bytes) {
        let problem =
            format!("pictures of {n_bytes} and {} bytes found; expected one size", other.len());
        return Err(Error::invalid("pictures", problem));
    }
    let total = queries.len() as u64;
    let mut found = Vec::with_capacity(queries.len());
    // Few enough that whoever waits sees progress.
    let at_once = 2 * QUERIES_TOGETHER * rayon::current_num_threads();
    for queries in queries.chunks(at_once) {
        let some: Vec<Vec<Vec<Found>>> = queries
            .par_chunks(QUERIES_TOGETHER)
            .map(|queries| nearest_of_all(queries, candidates, n_nearest))
            .collect();
        found.extend(some.into_iter().flatten());
        let done = found.len() as u64;
        control.check(&Report::progress("finding neighbours", done, Some(total), "pictures"))?;
    }
    let neighbour =
        |(sum, index): Found| Neighbour { index, rms: (sum as f64 / n_bytes.max(1) as f64).sqrt() };
    Ok(found.into_iter().map(|list| list.into_iter().map(neighbour).collect()).collect())
}

/// Sum of squared differences, and position.
type Found = (u64, usize);

fn nearest_of_all(queries: &[&[u8]], candidates: &[&[u8]], n_nearest: usize) -> Vec<Vec<Found>> {
    let mut found = vec![Vec::with_capacity(n_nearest + 1); queries.len()];
    for (index, candidate) in candidates.iter().enumerate() {
        for (query, found) in queries.iter().zip(&mut found) {
            let farthest = match found.get(n_nearest.wrapping_sub(1)) {
                Some(&(sum, _)) => sum,
                None => u64::MAX,
            };
            if let Some(sum) = squared_distance_below(query, candidate, farthest) {
                let place = found.partition_point(|&(other, _)| other <= sum);
                found.insert(place, (sum, index));
                found.truncate(n_nearest);
            }
        }
    }
    found
}
