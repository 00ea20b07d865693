//! A picture of any shape to the shape of the model.
//!
//! Resampling is bicubic (Catmull-Rom, a = −1/2) with a kernel that widens when shrinking, as
//! Pillow and torchvision's `antialias` do. It works on stored values, in gamma, as they do too.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use super::decode::Picture;
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
        let (source_width, source_height) = (f64::from(self.width()), f64::from(self.height()));
        let window = match fit {
            Fit::Stretch => {
                Window { left: 0.0, top: 0.0, width: source_width, height: source_height }
            }
            Fit::Crop => crop_window(self.width(), self.height(), width, height),
        };
        resample(&self, window, width, height)
    }
}

/// The part of the source that becomes the result, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

/// The source window of "scale to cover, then cut the centre".
///
/// The picture is never scaled as a whole: that of one a pixel high and thousands wide would not
/// fit into memory.
fn crop_window(source_width: u32, source_height: u32, width: u32, height: u32) -> Window {
    let [sw, sh, w, h] = [source_width, source_height, width, height].map(u64::from);
    // The size after scaling, the longer side rounded down as torchvision does.
    let (scaled_width, scaled_height) =
        if sw * h <= sh * w { (w, sh * w / sw) } else { (sw * h / sh, h) };
    let per_column = sw as f64 / scaled_width as f64;
    let per_row = sh as f64 / scaled_height as f64;
    let left = centre_offset(scaled_width - w) as f64 * per_column;
    let top = centre_offset(scaled_height - h) as f64 * per_row;
    Window {
        left,
        top,
        width: (w as f64 * per_column).min(sw as f64 - left),
        height: (h as f64 * per_row).min(sh as f64 - top),
    }
}

/// Half of `surplus`, a half rounded to even as Python's `round` does.
fn centre_offset(surplus: u64) -> u64 {
    let half = surplus / 2;
    if surplus % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

fn resample(picture: &Picture, window: Window, width: u32, height: u32) -> Result<Picture> {
    let pixel_type = if picture.channels() == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let failed = |error: &dyn std::fmt::Display| {
        Error::invalid(
            "picture",
            format!(
                "cannot be scaled from {}×{} to {width}×{height}: {error}",
                picture.width(),
                picture.height()
            ),
        )
    };
    let source = ImageRef::new(picture.width(), picture.height(), picture.bytes(), pixel_type)
        .map_err(|error| failed(&error))?;
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(window.left, window.top, window.width, window.height);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| failed(&error))?;
    Picture::from_bytes(width, height, picture.channels(), target.into_vec())
}
