//! A picture of any shape to the shape of the model.
//!
//! Resampling works on stored values, in gamma, as Pillow and torchvision do too.

use serde::{Deserialize, Serialize};

use super::decode::Picture;
use super::resample::bicubic;
use crate::error::{Error, Result};

/// How a picture that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scale until the picture just covers the target, then cut the centre out of it.
    #[default]
    Crop,
    /// Scale both sides to the target, each by its own factor: what the original program does.
    Stretch,
}

impl std::str::FromStr for Fit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "crop" => Ok(Fit::Crop),
            "stretch" => Ok(Fit::Stretch),
            _ => Err(Error::invalid("fit", format!("`{name}` is neither `crop` nor `stretch`"))),
        }
    }
}

impl std::fmt::Display for Fit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fit::Crop => "crop",
            Fit::Stretch => "stretch",
        })
    }
}

impl Picture {
    /// The picture at `width × height` pixels. One that has that size already is returned as it
    /// is.
    ///
    /// With [`Fit::Crop`] the size before the cut and the place of the cut are those of
    /// torchvision's `Resize(side)` and `CenterCrop(side)`.
    ///
    /// # Errors
    /// When a side is zero, or the result would hold more than [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn fit(self, width: u32, height: u32, fit: Fit) -> Result<Self> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > super::MAX_PIXELS {
            return Err(Error::invalid(
                "size",
                format!("{width}×{height} pixels; from 1 to {} are possible", super::MAX_PIXELS),
            ));
        }
        if (self.width(), self.height()) == (width, height) {
            return Ok(self);
        }
        match fit {
            Fit::Stretch => resample(&self, width, height),
            Fit::Crop => cover(self, width, height),
        }
    }

    /// Whether [`fit`](Self::fit) would make the picture larger on a side: what it adds is blur.
    pub fn is_smaller_than(&self, width: u32, height: u32) -> bool {
        self.width() < width || self.height() < height
    }

    /// The middle `width × height` pixels. Neither side may be above the picture's.
    fn centre(&self, width: u32, height: u32) -> Result<Self> {
        let left = half(self.width() - width) as usize;
        let top = half(self.height() - height) as usize;
        let row_len = self.width() as usize * self.channels();
        let part = left * self.channels()..(left + width as usize) * self.channels();
        let rows = self.bytes().chunks_exact(row_len).skip(top).take(height as usize);
        let bytes = rows.flat_map(|row| &row[part.clone()]).copied().collect();
        Picture::from_bytes(width, height, self.channels(), bytes)
    }
}

/// Scales `picture` to cover `width × height`, then cuts the centre out of it.
fn cover(mut picture: Picture, width: u32, height: u32) -> Result<Picture> {
    let (mut scaled_width, mut scaled_height) = covering(&picture, width, height);
    if scaled_width * scaled_height > super::MAX_PIXELS {
        // A ribbon, which would not fit into memory as a whole: cut first, to the next whole
        // source pixel.
        let [w, h] = [width, height].map(u64::from);
        let [sw, sh] = [picture.width(), picture.height()].map(u64::from);
        let cut_width = sw.min((sh * w).div_ceil(h)) as u32;
        let cut_height = sh.min((sw * h).div_ceil(w)) as u32;
        picture = picture.centre(cut_width, cut_height)?;
        (scaled_width, scaled_height) = covering(&picture, width, height);
    }
    resample(&picture, scaled_width as u32, scaled_height as u32)?.centre(width, height)
}

/// The size at which `picture` just covers `width × height`, the longer side rounded down as
/// torchvision does.
fn covering(picture: &Picture, width: u32, height: u32) -> (u64, u64) {
    let [sw, sh, w, h] = [picture.width(), picture.height(), width, height].map(u64::from);
    if sw * h <= sh * w { (w, sh * w / sw) } else { (sw * h / sh, h) }
}

/// Half of `surplus`, rounded to even as Python's `round` does.
fn half(surplus: u32) -> u32 {
    let half = surplus / 2;
    if surplus % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// All of `picture` at `width × height`.
fn resample(picture: &Picture, width: u32, height: u32) -> Result<Picture> {
    let from = [picture.width(), picture.height()].map(|side| side as usize);
    let to = [width, height].map(|side| side as usize);
    let bytes = bicubic(picture.bytes(), from, picture.channels(), to);
    Picture::from_bytes(width, height, picture.channels(), bytes)
}
