//! From the samples of a component to one value a pixel, as libjpeg does it: across and down by
//! two with a triangle filter, whose weights are 3/4 and 1/4, and by repetition otherwise.

use super::header::Component;

/// The samples of a component.
#[derive(Debug)]
pub(super) struct Plane<'h> {
    pub component: &'h Component,
    pub samples: Vec<u8>,
    /// Samples from one row to the next.
    pub stride: usize,
}

impl Plane<'_> {
    /// Writes row `y` of the picture to `into`, which may be one value longer than the picture is
    /// wide.
    pub fn upsampled_row(&self, y: usize, into: &mut [u8]) {
        let [across, down] = self.component.steps;
        // Narrower components are repeated, because libjpeg does so.
        let is_wide = self.component.width > 2;
        let row = y / down;
        match (across, down) {
            (1, 1) => {
                let row = self.row(row);
                into[..row.len()].copy_from_slice(row);
            }
            (2, 1) if is_wide => across_fancy(self.row(row), into),
            (1, 2) => {
                // Rounded down in even rows and up in odd ones, so that no bias adds up.
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((&near, &far), into) in self.row(row).iter().zip(self.neighbour(y)).zip(into) {
                    *into = ((u32::from(near) * 3 + u32::from(far) + bias) >> 2) as u8;
                }
            }
            (2, 2) if is_wide => both_fancy(self.row(row), self.neighbour(y), into),
            _ => {
                for (x, into) in into.iter_mut().enumerate() {
                    // The last value may lie behind the picture.
                    *into = self.row(row).get(x / across).copied().unwrap_or(0);
                }
            }
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.samples[row * self.stride..][..self.component.width]
    }

    /// Of the rows beside that of pixel row `y`, which stands for two: the one nearer to it. The
    /// first and the last row are their own neighbours.
    fn neighbour(&self, y: usize) -> &[u8] {
        let row = y / 2;
        self.row(match y % 2 {
            0 => row.saturating_sub(1),
            _ => (row + 1).min(self.component.height - 1),
        })
    }
}

/// Twice as many values as samples.
fn across_fancy(samples: &[u8], into: &mut [u8]) {
    let value = |x: usize| u32::from(samples[x]);
    let last = samples.len() - 1;
    for (x, into) in into.chunks_mut(2).take(samples.len()).enumerate() {
        let left = if x == 0 { value(0) } else { (3 * value(x) + value(x - 1) + 1) >> 2 };
        let right = if x == last { value(last) } else { (3 * value(x) + value(x + 1) + 2) >> 2 };
        put(into, left, right);
    }
}

/// Twice as many values as samples, between the row `near` and the row `far`.
fn both_fancy(near: &[u8], far: &[u8], into: &mut [u8]) {
    let value = |x: usize| 3 * u32::from(near[x]) + u32::from(far[x]);
    let last = near.len() - 1;
    for (x, into) in into.chunks_mut(2).take(near.len()).enumerate() {
        let here = value(x);
        let left = if x == 0 { 4 * here + 8 } else { 3 * here + value(x - 1) + 8 };
        let right = if x == last { 4 * here + 7 } else { 3 * here + value(x + 1) + 7 };
        put(into, left >> 4, right >> 4);
    }
}

/// The last pair of a row may be one value.
fn put(into: &mut [u8], left: u32, right: u32) {
    into[0] = left as u8;
    if let Some(into) = into.get_mut(1) {
        *into = right as u8;
    }
}
