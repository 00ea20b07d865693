//! Animations: pictures one after the other, as APNG, GIF or WebP.
//!
//! APNG and WebP keep every pixel as it is; GIF has 256 colours a picture. All of them loop. What a
//! picture says of how it came to be is kept in each: as text chunks in APNG, as a comment in GIF,
//! as XMP in WebP.

mod apng;
mod gif;
mod webp;

use super::picture::Picture;
use super::png;
use crate::error::{Error, Result};
use crate::files::{atomic_write, read_regular};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The most pictures of an animation.
const MAX_FRAMES: usize = 10_000;
/// The most pixels of all its pictures together.
const MAX_PIXELS: usize = 1 << 30;
/// The largest animation whose texts are read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// How an animation is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnimationFormat {
    /// Animated PNG, lossless.
    Apng,
    /// GIF, 256 colours a picture.
    Gif,
    /// Animated WebP, lossless.
    WebP,
}

impl AnimationFormat {
    /// What the end of a name stands for: `.apng`, `.gif` or `.webp`, in upper or lower case.
    pub fn of(path: impl AsRef<Path>) -> Option<Self> {
        let extension = path.as_ref().extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "apng" => Some(AnimationFormat::Apng),
            "gif" => Some(AnimationFormat::Gif),
            "webp" => Some(AnimationFormat::WebP),
            _ => None,
        }
    }

    /// The longest side that the format can express.
    fn max_side(self) -> usize {
        match self {
            AnimationFormat::Apng => (1 << 31) - 1,
            AnimationFormat::Gif => (1 << 16) - 1,
            AnimationFormat::WebP => 1 << 14,
        }
    }
}

/// An animation to write: all but its pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Animation<'a> {
    /// How it is stored.
    pub format: AnimationFormat,
    /// How many pictures it has.
    pub n_frames: usize,
    /// Pictures in a second, 1 to 50: GIF is shown no faster anywhere.
    pub frames_per_second: u16,
    /// Milliseconds that the last picture stays longer.
    pub rest_ms: u16,
    /// Keys and texts, as in [`write_png`](super::write_png).
    pub texts: &'a [(String, String)],
}

impl Animation<'_> {
    /// Checks that pictures of such a size can be written, before they are made.
    ///
    /// # Errors
    /// When there are none or too many, or a side is longer than the format can express.
    pub fn check(&self, [width, height]: [usize; 2]) -> Result<()> {
        if !(1..=50).contains(&self.frames_per_second) {
            return Err(Error::out_of_range("fps", self.frames_per_second, "between 1 and 50"));
        }
        if !(1..=MAX_FRAMES).contains(&self.n_frames) {
            let allowed = format!("between 1 and {MAX_FRAMES}");
            return Err(Error::out_of_range("frames", self.n_frames, allowed));
        }
        Picture::check_size(width, height)?;
        let max_side = self.format.max_side();
        let n_pixels = (width * height).saturating_mul(self.n_frames);
        if width.max(height) > max_side || n_pixels > MAX_PIXELS {
            let (n, most) = (self.n_frames, MAX_PIXELS / 1_000_000);
            let problem = format!(
                "an animation of {n} pictures of {width} × {height} pixels; expected sides up to \
                 {max_side} and {most} million pixels in all"
            );
            return Err(Error::invalid("out", problem));
        }
        Ok(())
    }

    /// Writes the animation to `path`, whole or not at all; `frame` makes one picture after the
    /// other. The same pictures give the same bytes.
    ///
    /// # Errors
    /// As [`check`](Self::check); when `frame` fails, when pictures differ in size, and when the
    /// file cannot be written.
    pub fn write(
        &self,
        path: impl AsRef<Path>,
        mut frame: impl FnMut(usize) -> Result<Picture>,
    ) -> Result<()> {
        let path = path.as_ref();
        let first = frame(0)?;
        let size = [first.width(), first.height()];
        self.check(size)?;
        png::check_keys(self.texts)?;
        // What goes wrong with a picture is no failure to write, and is handed on as it is.
        let mut failed = None;
        let mut first = Some(first);
        let mut next =
            |index: usize| {
                let picture = match first.take() {
                Some(first) => Ok(first),
                None => frame(index).and_then(|picture| match [picture.width(), picture.height()] {
                    other if other == size => Ok(picture),
                    [width, height] => {
                        let problem = format!(
                            "picture {index} has {width} × {height} pixels; expected {} × {}",
                            size[0], size[1]
                        );
                        Err(Error::invalid("frames", problem))
                    }
                }),
            };
                picture.map_err(|error| {
                    failed = Some(error);
                    io::Error::other("a picture could not be made")
                })
            };
        let written = atomic_write(path, |file| match self.format {
            AnimationFormat::Apng => apng::write(file, self, size, &mut next),
            AnimationFormat::Gif => gif::write(file, self, size, &mut next),
            AnimationFormat::WebP => webp::write(file, self, size, &mut next),
        });
        match failed {
            Some(error) => Err(error),
            None => written,
        }
    }

    /// Milliseconds that picture `index` is shown.
    fn milliseconds(&self, index: usize) -> u32 {
        let each = 1000 / u32::from(self.frames_per_second.max(1));
        let is_last = index + 1 == self.n_frames;
        each + if is_last { u32::from(self.rest_ms) } else { 0 }
    }
}

/// Makes the picture of a number, each once and in order.
type Frames<'a> = dyn FnMut(usize) -> io::Result<Picture> + 'a;

/// The texts that Kao wrote into the animation at `path`, by key; empty where there are none.
///
/// # Errors
/// When the file cannot be read, or is no animation.
pub fn read_animation_text(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>> {
    let path = path.as_ref();
    let Some(format) = AnimationFormat::of(path) else {
        return Err(Error::malformed(path, "expected a name that ends in .apng, .gif or .webp"));
    };
    let texts = match format {
        AnimationFormat::Apng => return super::read_png_text(path),
        AnimationFormat::Gif => gif::texts(&read_regular(path, MAX_FILE_BYTES)?),
        AnimationFormat::WebP => webp::texts(&read_regular(path, MAX_FILE_BYTES)?),
    };
    texts.ok_or_else(|| Error::malformed(path, "not a sound animation"))
}

#[cfg(test)]
mod tests;
