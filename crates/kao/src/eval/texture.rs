//! What the finest details of images are like, in a few numbers for each image: what the features of
//! a classifier do not see, since they say what is shown and not how cleanly.
//!
//! Of the luminance and of two differences of colour, at the image's own resolution and at half of
//! it: quartiles and mean of the magnitude of the three details of a Haar transform at every place
//! (across, down and both). Noise lifts the quartiles, which are near 0 in pictures with plain areas;
//! blur lowers them. And how far even rows and columns differ from odd ones, which a grid of patches
//! leaves.

use crate::images::Images;
use rayon::prelude::*;

/// Channels that are looked at: the luminance and two differences of colour.
const CHANNELS: usize = 3;
/// Resolutions: the image's own, and half of it.
const LEVELS: usize = 2;
/// Details of a Haar transform.
const DETAILS: usize = 3;
/// Quartiles and mean of each.
const STATISTICS: usize = 4;

/// Numbers for each image.
pub const N_TEXTURE: usize = CHANNELS * DETAILS * (LEVELS * STATISTICS + 1);

/// The [`N_TEXTURE`] numbers of each image of three channels (`[N, 3, H, W]`, in [-1, 1], sides of 4
/// pixels at least), `[N, N_TEXTURE]`. Magnitudes are in steps of 8 bits, as log(1 + x).
///
/// # Panics
/// When the images have other channels or are smaller.
pub fn textures(images: &Images) -> Vec<f32> {
    let [channels, height, width] = images.image_shape();
    assert!(channels == 3 && height >= 4 && width >= 4, "colour images of 4 pixels a side");
    let of_image = |k: usize| {
        let image = images.image(k);
        let (r, rest) = image.split_at(height * width);
        let (g, b) = rest.split_at(height * width);
        let pixel = |k: usize| [r[k], g[k], b[k]].map(|value| 127.5 * value);
        let planes = [
            Plane::new(height, width, |k| pixel(k).iter().sum::<f32>() / 3.0),
            Plane::new(height, width, |k| pixel(k)[0] - pixel(k)[1]),
            Plane::new(height, width, |k| pixel(k)[2] - pixel(k)[1]),
        ];
        planes.into_iter().flat_map(Plane::numbers).collect::<Vec<f32>>()
    };
    (0..images.len()).into_par_iter().flat_map_iter(of_image).collect()
}

/// One channel at one resolution.
struct Plane {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Plane {
    fn new(height: usize, width: usize, value: impl Fn(usize) -> f32) -> Self {
        Plane { height, width, values: (0..height * width).map(value).collect() }
    }

    fn numbers(self) -> Vec<f32> {
        let half = self.halved();
        let mut numbers = self.phases();
        numbers.extend(self.statistics());
        numbers.extend(half.statistics());
        numbers
    }

    /// The four pixels of the square at each place.
    fn squares(&self, step: usize) -> impl Iterator<Item = [f32; 4]> {
        let rows = (0..self.height - 1).step_by(step);
        rows.flat_map(move |y| {
            (0..self.width - 1).step_by(step).map(move |x| {
                let [first, second] = [y, y + 1].map(|y| y * self.width + x);
                [first, first + 1, second, second + 1].map(|place| self.values[place])
            })
        })
    }

    /// At half the resolution.
    fn halved(&self) -> Self {
        let values = self.squares(2).map(|square| square.iter().sum::<f32>() / 4.0).collect();
        Plane { height: self.height / 2, width: self.width / 2, values }
    }

    /// The mean of each detail over squares that do not overlap: how far even rows and columns differ
    /// from odd ones.
    fn phases(&self) -> Vec<f32> {
        let (mut sums, mut n) = ([0.0f64; DETAILS], 0.0);
        for square in self.squares(2) {
            n += 1.0;
            let details = details(square);
            sums.iter_mut().zip(details).for_each(|(sum, detail)| *sum += f64::from(detail));
        }
        sums.map(|sum| (sum / n) as f32).to_vec()
    }

    fn statistics(&self) -> Vec<f32> {
        let mut magnitudes: [Vec<f32>; DETAILS] = Default::default();
        for square in self.squares(1) {
            let details = details(square);
            magnitudes.iter_mut().zip(details).for_each(|(all, detail)| all.push(detail.abs()));
        }
        let mut statistics = Vec::with_capacity(DETAILS * STATISTICS);
        for mut values in magnitudes {
            let mean =
                values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
            values.sort_unstable_by(f32::total_cmp);
            let quartile = |k: usize| values[k * (values.len() - 1) / 4];
            let numbers = [quartile(1), quartile(2), quartile(3), mean as f32];
            statistics.extend(numbers.map(libm::log1pf));
        }
        statistics
    }
}

/// The details of a Haar transform: across, down and both.
fn details([a, b, c, d]: [f32; 4]) -> [f32; DETAILS] {
    [(a - b + c - d) / 2.0, (a + b - c - d) / 2.0, (a - b - c + d) / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texture of `n` images with plain areas after `change`, which gets each value with its
    /// channel, row and column in steps of 8 bits.
    fn of_images(n: usize, change: impl Fn(f32, [usize; 3]) -> f32) -> Vec<f32> {
        let mut images = Images::zeros([n, 3, 32, 32]);
        for k in 0..n {
            for (place, value) in images.image_mut(k).iter_mut().enumerate() {
                let [c, y, x] = [place / 1024, place / 32 % 32, place % 32];
                let is_in_disc = (x as f32 - 14.0).hypot(y as f32 - 17.0) < 6.0 + k as f32;
                let plain = if is_in_disc { 40.0 + 20.0 * c as f32 } else { -30.0 };
                *value = change(plain, [c, y, x]) / 127.5;
            }
        }
        textures(&images)
    }

    #[test]
    fn plain_images_have_none() {
        let images = Images::from_vec([1, 3, 4, 6], vec![0.3; 72]).unwrap();
        assert_eq!(textures(&images), [0.0; N_TEXTURE]);
    }

    #[test]
    fn a_grid_is_where_even_places_differ_from_odd_ones() {
        let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
        let clean = of_images(4, |value, _| value);
        let grid = of_images(4, |value, [_, y, x]| value + 2.0 * sign(x) * sign(y));
        for (clean, grid) in clean.chunks_exact(N_TEXTURE).zip(grid.chunks_exact(N_TEXTURE)) {
            // Both, of the luminance: (2 + 2 + 2 + 2) / 2.
            assert!((grid[2] - clean[2] - 4.0).abs() < 1e-3);
            assert!((grid[0] - clean[0]).abs() < 1e-3 && (grid[1] - clean[1]).abs() < 1e-3);
        }
    }

    #[test]
    fn an_image_does_not_know_its_batch() {
        let three = of_images(3, |value, _| value);
        assert_eq!(three[..N_TEXTURE], of_images(1, |value, _| value));
        assert_eq!(three.len(), 3 * N_TEXTURE);
    }
}
