//! From images to feature maps and back: channels last, and patches of pixels as pixels.

use crate::error::Result;
use crate::images::Images;
use rayon::prelude::*;

/// `[N, C, H, W]` to `[N, H/p, W/p, C·p²]`, patches of `patch_size` p as pixels.
pub(super) fn to_map(images: &Images, patch_size: usize) -> Vec<f32> {
    let [_, c, h, w] = images.shape();
    let patches = Patches { shape: [c, h, w], side: patch_size };
    let mut values = vec![0.0; images.data().len()];
    let size = images.image_len().max(1);
    values
        .par_chunks_exact_mut(size)
        .zip(images.data().par_chunks_exact(size))
        .for_each(|(there, here)| patches.visit(|from, to| there[to] = here[from]));
    values
}

/// The way back, to images of `shape` `[N, C, H, W]`.
pub(super) fn from_map(values: &[f32], patch_size: usize, shape: [usize; 4]) -> Result<Images> {
    let [_, c, h, w] = shape;
    let patches = Patches { shape: [c, h, w], side: patch_size };
    let mut images = Images::zeros(shape);
    let size = images.image_len().max(1);
    images
        .data_mut()
        .par_chunks_exact_mut(size)
        .zip(values.par_chunks_exact(size))
        .for_each(|(here, there)| patches.visit(|to, from| here[to] = there[from]));
    Ok(images)
}

/// Where the values of an image lie once its patches are pixels.
#[derive(Clone, Copy)]
struct Patches {
    /// `[C, H, W]`.
    shape: [usize; 3],
    side: usize,
}

impl Patches {
    /// Calls `visit` with every index into `[C, H, W]` and the one into `[H/p, W/p, C, p, p]`.
    fn visit(self, mut visit: impl FnMut(usize, usize)) {
        let ([c, h, w], p) = (self.shape, self.side);
        for channel in 0..c {
            for y in 0..h {
                let row = (channel * h + y) * w;
                let there = (y / p * (w / p) * c + channel) * p * p + y % p * p;
                for patch in 0..w / p {
                    let there = there + patch * c * p * p;
                    (0..p).for_each(|x| visit(row + patch * p + x, there + x));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(shape: [usize; 4]) -> Images {
        let n = shape.iter().product::<usize>();
        Images::from_vec(shape, (0..n).map(|k| k as f32).collect()).unwrap()
    }

    #[test]
    fn a_patch_becomes_a_pixel_with_its_channels_together() {
        let values = to_map(&numbered([1, 2, 2, 4]), 2);
        // Channel by channel, rows within: as PyTorch's pixel_unshuffle numbers them.
        let expected = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];
        assert_eq!(values, expected.map(|k| k as f32));
    }

    proptest! {
        #[test]
        fn patches_come_back(n in 0usize..3, c in 1usize..4, rows in 1usize..4, columns in 1usize..4, p in 1usize..5) {
            let images = numbered([n, c, rows * p, columns * p]);
            let there = to_map(&images, p);
            prop_assert_eq!(from_map(&there, p, images.shape()).unwrap(), images);
        }
    }
}
