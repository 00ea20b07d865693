//! The Laplacian pyramid (Burt & Adelson 1983): an image as its details at each resolution.
//!
//! As the evaluation of Karras et al. 2018 has it: the 5 × 5 binomial kernel, edges mirrored about
//! the centre of the outermost pixel, every second pixel kept, and no level below 16 pixels a side.
//! Sides may be odd; the coarser image then has the larger half.

/// The shortest side that a level may have.
pub const MIN_SIDE: usize = 16;

/// The binomial kernel of one axis; that of both is its outer product.
const KERNEL: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];

/// One level of one image: `[C, H, W]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// `[C, H, W]`.
    pub shape: [usize; 3],
    /// The values.
    pub values: Vec<f32>,
}

/// Height and width of each level for images of `[H, W]`, finest first; none where a side is below
/// [`MIN_SIDE`].
pub fn resolutions([height, width]: [usize; 2]) -> Vec<[usize; 2]> {
    let sizes = std::iter::successors(Some([height, width]), |size| Some(size.map(halved)));
    sizes.take_while(|size| size.iter().all(|&side| side >= MIN_SIDE)).collect()
}

/// The levels of `image` (`[C, H, W]`), finest first: details, and last what is left of the image.
/// None where a side is below [`MIN_SIDE`].
///
/// # Panics
/// When `image` is not of `shape`.
pub fn pyramid(image: &[f32], shape: [usize; 3]) -> Vec<Detail> {
    let [_, height, width] = shape;
    let mut rest = Detail { shape, values: image.to_vec() };
    let n_levels = resolutions([height, width]).len();
    let mut levels = Vec::with_capacity(n_levels);
    for level in 0..n_levels {
        if level + 1 == n_levels {
            levels.push(rest);
            break;
        }
        let (detail, coarse) = split(&rest.values, rest.shape);
        levels.push(detail);
        rest = coarse;
    }
    levels
}

/// Parts an image (`[C, H, W]`) into its finest details and a coarser image.
///
/// # Panics
/// When `image` is not of `shape`.
pub fn split(image: &[f32], shape: [usize; 3]) -> (Detail, Detail) {
    let [channels, height, width] = shape;
    assert_eq!(image.len(), channels * height * width, "image and shape");
    let coarse = downscaled(image, shape);
    let mut values = upscaled(&coarse, [height, width]);
    for (value, &pixel) in values.iter_mut().zip(image) {
        *value = pixel - *value;
    }
    (Detail { shape, values }, coarse)
}

/// The image that [`split`] parted.
pub fn join(detail: &Detail, coarse: &Detail) -> Detail {
    let [_, height, width] = detail.shape;
    let mut values = upscaled(coarse, [height, width]);
    for (value, &detail) in values.iter_mut().zip(&detail.values) {
        *value += detail;
    }
    Detail { shape: detail.shape, values }
}

/// Pixels of a side after every second was dropped.
fn halved(side: usize) -> usize {
    side.div_ceil(2)
}

/// The pixel that stands for pixel `at` of a line of `n`: mirrored about the outermost ones.
fn mirrored(at: isize, n: usize) -> usize {
    let last = n.saturating_sub(1) as isize;
    let at = if at > last { 2 * last - at } else { at };
    at.unsigned_abs().min(n.saturating_sub(1))
}

/// What makes a line of pixels from another: for each its sources and their weights.
type Taps = Vec<[(usize, f32); 5]>;

/// Smoothed, every second pixel kept.
fn down_taps(n: usize) -> Taps {
    let tap = |x: usize, t: usize| (mirrored((2 * x + t) as isize - 2, n), KERNEL[t]);
    (0..halved(n)).map(|x| std::array::from_fn(|t| tap(x, t))).collect()
}

/// Every pixel followed by a zero, smoothed, and doubled to make up for the zeros.
fn up_taps(n: usize) -> Taps {
    let tap = |x: usize, t: usize| match mirrored((x + t) as isize - 2, n) {
        source if source % 2 == 0 => (source / 2, 2.0 * KERNEL[t]),
        source => (source / 2, 0.0),
    };
    (0..n).map(|x| std::array::from_fn(|t| tap(x, t))).collect()
}

fn downscaled(image: &[f32], [channels, height, width]: [usize; 3]) -> Detail {
    let shape = [channels, halved(height), halved(width)];
    let values = resampled(image, width, &down_taps(height), &down_taps(width), height);
    Detail { shape, values }
}

fn upscaled(coarse: &Detail, [height, width]: [usize; 2]) -> Vec<f32> {
    let [_, coarse_height, coarse_width] = coarse.shape;
    resampled(&coarse.values, coarse_width, &up_taps(height), &up_taps(width), coarse_height)
}

/// Applies `down` to the columns and `across` to the rows of planes of `height` × `width`.
fn resampled(image: &[f32], width: usize, down: &Taps, across: &Taps, height: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(image.len() / (height * width) * down.len() * across.len());
    let mut row = vec![0.0; width];
    for plane in image.chunks_exact(height * width) {
        for taps in down {
            let [a, b, c, d, e] = taps.map(|(y, weight)| (&plane[y * width..][..width], weight));
            for (x, value) in row.iter_mut().enumerate() {
                *value = a.0[x] * a.1 + b.0[x] * b.1 + c.0[x] * c.1 + d.0[x] * d.1 + e.0[x] * e.1;
            }
            out.extend(
                across
                    .iter()
                    .map(|taps| taps.iter().fold(0.0, |sum, &(x, weight)| sum + row[x] * weight)),
            );
        }
    }
    out
}
