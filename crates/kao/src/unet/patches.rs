//! From images to feature maps and back: channels last, and patches of pixels as pixels.

use crate::images::Images;
use kao_kernels::Pixels;
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
pub(super) fn from_map(values: &[f32], patch_size: usize, shape: [usize; 4]) -> Images {
    let [_, c, h, w] = shape;
    let patches = Patches { shape: [c, h, w], side: patch_size };
    let mut images = Images::zeros(shape);
    let size = images.image_len().max(1);
    images
        .data_mut()
        .par_chunks_exact_mut(size)
        .zip(values.par_chunks_exact(size))
        .for_each(|(here, there)| patches.visit(|to, from| here[to] = there[from]));
    images
}

/// A feature map of patches, `[N, H/p, W/p, C·p²]`.
#[derive(Clone, Copy)]
pub(super) struct PatchMap<'a> {
    pub(super) values: &'a [f32],
    /// C·p².
    pub(super) channels: usize,
}

/// Both maps side by side along the channels, with every pixel of a patch as a pixel of its own:
/// `[N, H, W, C_first + C_second]`. `patches` are those of the maps, N images of H/p × W/p.
pub(super) fn to_pixels(maps: [PatchMap<'_>; 2], patches: Pixels, patch_size: usize) -> Vec<f32> {
    let area = patch_size * patch_size;
    let channels = maps.map(|map| map.channels / area);
    let width: usize = channels.iter().sum();
    let mut pixels = vec![0.0; patches.total() * area * width];
    let size = (patches.per_image() * area * width).max(1);
    pixels.par_chunks_exact_mut(size).enumerate().for_each(|(image, pixels)| {
        let mut first = 0;
        for (map, channels) in maps.into_iter().zip(channels) {
            let len = patches.per_image() * map.channels;
            let values = &map.values[image * len..(image + 1) * len];
            let grid = PatchGrid { patches, side: patch_size, channels };
            grid.visit(|patch, pixel, channel| {
                pixels[pixel * width + first + channel] = values[patch];
            });
            first += channels;
        }
    });
    pixels
}

/// The first `channels` channels of the map `pixels` `[N, H, W, width]` as a map of patches
/// `[N, H/p, W/p, channels·p²]`: what [`to_pixels`] made of its first map.
pub(super) fn from_pixels(
    pixels: &[f32],
    width: usize,
    channels: usize,
    patches: Pixels,
    patch_size: usize,
) -> Vec<f32> {
    let area = patch_size * patch_size;
    let mut values = vec![0.0; patches.total() * area * channels];
    let size = (patches.per_image() * area).max(1);
    let grid = PatchGrid { patches, side: patch_size, channels };
    values
        .par_chunks_exact_mut(size * channels)
        .zip(pixels.par_chunks_exact(size * width))
        .for_each(|(values, pixels)| {
            grid.visit(|patch, pixel, channel| values[patch] = pixels[pixel * width + channel]);
        });
    values
}

/// The patches of one image.
#[derive(Clone, Copy)]
struct PatchGrid {
    patches: Pixels,
    side: usize,
    channels: usize,
}

impl PatchGrid {
    /// Calls `visit` with every index into `[H/p, W/p, C, p, p]`, and the pixel of `[H, W]` and the
    /// channel that it stands for.
    fn visit(self, mut visit: impl FnMut(usize, usize, usize)) {
        let PatchGrid { patches: Pixels { h, w, .. }, side: p, channels } = self;
        let mut index = 0;
        for y in 0..h {
            for x in 0..w {
                for channel in 0..channels {
                    for row in 0..p {
                        let pixel = (y * p + row) * w * p + x * p;
                        for column in 0..p {
                            visit(index, pixel + column, channel);
                            index += 1;
                        }
                    }
                }
            }
        }
    }
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
            prop_assert_eq!(from_map(&there, p, images.shape()), images);
        }

        #[test]
        fn pixels_of_patches_are_those_of_the_images(
            n in 0usize..3, a in 1usize..4, b in 1usize..3, rows in 1usize..4,
            columns in 1usize..4, p in 1usize..4,
        ) {
            let maps = [a, b].map(|c| numbered([n, c, rows * p, columns * p]));
            let [first, second] = maps.each_ref().map(|images| to_map(images, p));
            let patches = Pixels::new(n, rows, columns);
            let both = [(&first, a), (&second, b)]
                .map(|(values, c)| PatchMap { values, channels: c * p * p });
            let pixels = to_pixels(both, patches, p);
            // Channels last, as maps of single pixels are.
            let singles = maps.each_ref().map(|images| to_map(images, 1));
            let expected: Vec<f32> = singles[0]
                .chunks(a)
                .zip(singles[1].chunks(b))
                .flat_map(|(first, second)| first.iter().chain(second).copied())
                .collect();
            prop_assert_eq!(&pixels, &expected);
            prop_assert_eq!(from_pixels(&pixels, a + b, a, patches, p), first);
        }
    }
}
