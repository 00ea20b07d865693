//! A batch of images on the host: `[N, C, H, W]` in `f32`, nominal range `[-1, 1]`.
//!
//! This is what samplers work on, what data sets yield and what `render` draws. It knows neither
//! files nor devices.

use crate::error::{Error, Result};

/// A batch of images, `[N, C, H, W]`, row-major `f32`, nominal range `[-1, 1]`.
///
/// Values outside the range are legal: `x_T` is Gaussian noise, and an unclipped `x_0` may
/// overshoot. Conversion to bytes clamps.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Images {
    /// A batch of zeros (mid-grey) of shape `[N, C, H, W]`.
    pub fn zeros(shape: [usize; 4]) -> Self {
        Images { shape, data: vec![0.0; shape.iter().product()] }
    }

    /// Wraps `data`, row-major of shape `[N, C, H, W]`.
    ///
    /// # Errors
    /// When `data` does not hold exactly `N·C·H·W` values.
    pub fn from_vec(shape: [usize; 4], data: Vec<f32>) -> Result<Self> {
        let expected: usize = shape.iter().product();
        if data.len() != expected {
            return Err(Error::invalid(
                "images",
                format!("{} values given for shape {shape:?}, which holds {expected}", data.len()),
            ));
        }
        Ok(Images { shape, data })
    }

    /// Builds a batch from bytes in the layout of image files, `[N, H, W, C]`: byte `b` becomes
    /// `b / 127.5 − 1`.
    ///
    /// # Errors
    /// When `bytes` does not hold exactly `N·H·W·C` values.
    pub fn from_bytes_nhwc(shape: [usize; 4], bytes: &[u8]) -> Result<Self> {
        let [n, c, h, w] = shape;
        if bytes.len() != n * c * h * w {
            return Err(Error::invalid(
                "images",
                format!("{} bytes given for shape {shape:?}", bytes.len()),
            ));
        }
        let mut images = Images::zeros(shape);
        let plane = h * w;
        for (image, bytes) in images
            .data
            .chunks_exact_mut((c * plane).max(1))
            .zip(bytes.chunks_exact((c * plane).max(1)))
        {
            for (pixel, values) in bytes.chunks_exact(c).enumerate() {
                for (channel, &value) in values.iter().enumerate() {
                    image[channel * plane + pixel] = byte_to_unit(value);
                }
            }
        }
        Ok(images)
    }

    /// `[N, C, H, W]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// How many images there are (N).
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
    }

    /// `[C, H, W]` of each image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.shape[1], self.shape[2], self.shape[3]]
    }

    /// Values per image: C·H·W.
    pub fn image_len(&self) -> usize {
        self.shape[1] * self.shape[2] * self.shape[3]
    }

    /// All values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, row-major.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values, without the shape.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }

    /// Image `index`, `[C, H, W]` row-major.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[f32] {
        let size = self.image_len();
        &self.data[index * size..(index + 1) * size]
    }

    /// Image `index`, `[C, H, W]` row-major.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn image_mut(&mut self, index: usize) -> &mut [f32] {
        let size = self.image_len();
        &mut self.data[index * size..(index + 1) * size]
    }

    /// The images `start .. end` as a batch of their own.
    ///
    /// # Panics
    /// When the range does not lie within the batch.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let size = self.image_len();
        let data = self.data[range.start * size..range.end * size].to_vec();
        let [_, c, h, w] = self.shape;
        Images { shape: [range.len(), c, h, w], data }
    }

    /// The images at these positions, in this order, as a batch of their own.
    ///
    /// # Panics
    /// When a position is not below [`len`](Self::len).
    #[must_use]
    pub fn chosen(&self, indices: &[usize]) -> Self {
        let data = indices.iter().flat_map(|&index| self.image(index)).copied().collect();
        let [_, c, h, w] = self.shape;
        Images { shape: [indices.len(), c, h, w], data }
    }

    /// The same images, with memory set aside for `n_images` in all.
    ///
    /// # Errors
    /// When there is not so much memory.
    pub(crate) fn with_room_for(mut self, n_images: usize) -> Result<Self> {
        let n_values = n_images.saturating_mul(self.image_len()).saturating_sub(self.data.len());
        self.data.try_reserve_exact(n_values).map_err(|_| {
            Error::invalid("count", format!("{n_images} found; so many images fit no memory"))
        })?;
        Ok(self)
    }

    /// Appends the images of `other`.
    ///
    /// # Errors
    /// When the images are of another shape.
    pub fn append(&mut self, other: &Images) -> Result<()> {
        if self.image_shape() != other.image_shape() {
            return Err(Error::invalid(
                "images",
                format!(
                    "cannot join images of shape {:?} and {:?}",
                    self.image_shape(),
                    other.image_shape()
                ),
            ));
        }
        self.data.extend_from_slice(&other.data);
        self.shape[0] += other.shape[0];
        Ok(())
    }

    /// Image `index` as interleaved bytes `[H, W, C]`, clamped: −1 → 0, 1 → 255, rounded to
    /// nearest.
    pub fn to_bytes_hwc(&self, index: usize) -> Vec<u8> {
        let [c, h, w] = self.image_shape();
        let plane = h * w;
        let image = self.image(index);
        let mut bytes = Vec::with_capacity(c * plane);
        for pixel in 0..plane {
            bytes.extend((0..c).map(|channel| unit_to_byte(image[channel * plane + pixel])));
        }
        bytes
    }
}

/// Byte `b` to `[-1, 1]`: `b / 127.5 − 1`.
pub fn byte_to_unit(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// `[-1, 1]` to a byte, clamped and rounded to nearest; NaN becomes 0.
pub fn unit_to_byte(value: f32) -> u8 {
    // `as` saturates, and turns NaN into 0.
    ((value + 1.0) * 127.5).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip() {
        for byte in 0..=255 {
            assert_eq!(unit_to_byte(byte_to_unit(byte)), byte);
        }
    }

    #[test]
    fn out_of_range_values_clamp() {
        assert_eq!(unit_to_byte(-7.0), 0);
        assert_eq!(unit_to_byte(7.0), 255);
        assert_eq!(unit_to_byte(f32::NAN), 0);
    }

    #[test]
    fn interleaved_bytes_and_planes_are_inverse() {
        let bytes: Vec<u8> = (0..2 * 3 * 4 * 5).map(|i| (i * 7 % 256) as u8).collect();
        let images = Images::from_bytes_nhwc([2, 3, 4, 5], &bytes).unwrap();
        let back: Vec<u8> = (0..2).flat_map(|k| images.to_bytes_hwc(k)).collect();
        assert_eq!(back, bytes);
    }

    #[test]
    fn a_wrong_length_is_refused() {
        assert!(Images::from_vec([1, 3, 2, 2], vec![0.0; 11]).is_err());
        assert!(Images::from_bytes_nhwc([1, 3, 2, 2], &[0; 13]).is_err());
    }
}
