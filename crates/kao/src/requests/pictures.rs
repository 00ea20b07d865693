//! Where images go, and how they are drawn: one picture, an animation, or a folder of single ones.

use super::Provenance;
use super::destinations::check_no_run;
use crate::control::{Control, Report};
use crate::error::{Error, Result};
use crate::files::{check_folder, prepare_path};
use crate::images::Images;
use crate::quantities::counted;
use crate::render::{self, AnimationFormat, Layout, Sheet};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// The most files that one request writes to a folder.
pub(super) const MAX_FILES: usize = 1 << 20;

/// The largest factor by which images are enlarged.
const MAX_SCALE: usize = 64;

/// What kinds of results there are besides a PNG file and a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Animations {
    /// The images can be animated.
    Possible,
    /// They cannot.
    No,
}

/// Where images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// All into one PNG file.
    Picture(PathBuf),
    /// Each into a PNG file of its own in this folder.
    Folder(PathBuf),
    /// One after the other into an animation.
    Animation(PathBuf, AnimationFormat),
}

impl Destination {
    /// What a path stands for: a folder where one is there or a separator is at its end, otherwise
    /// what the end of its name says.
    ///
    /// # Errors
    /// When it names neither.
    pub fn of(path: &Path, animations: Animations) -> Result<Self> {
        if is_folder(path) {
            return Ok(Destination::Folder(path.to_path_buf()));
        }
        match AnimationFormat::of(path) {
            Some(format) if animations == Animations::Possible => {
                Ok(Destination::Animation(path.to_path_buf(), format))
            }
            _ => render::check_png_path(path)
                .map(|()| Destination::Picture(path.to_path_buf()))
                .map_err(|error| {
                    let also = match animations {
                        Animations::Possible => ", or in .gif, .apng or .webp for an animation",
                        Animations::No => "",
                    };
                    error.with_hint(format!(
                        "`DIR{MAIN_SEPARATOR}` writes each image to a file of its own in a folder\
                         {also}"
                    ))
                }),
        }
    }

    /// Makes sure, before the work, that the results can be written.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn prepare(&self) -> Result<()> {
        match self {
            Destination::Picture(path) | Destination::Animation(path, _) => prepare_path(path),
            Destination::Folder(folder) => {
                check_folder(folder)?;
                check_no_run(folder)?;
                prepare_path(folder.join("image.png"))
            }
        }
    }
}

/// Whether a path names a folder: with a separator at its end, or one that is there and is not called
/// as a picture is.
pub(super) fn is_folder(path: &Path) -> bool {
    let name = path.as_os_str().to_string_lossy();
    let is_called_picture =
        || render::check_png_path(path).is_ok() || AnimationFormat::of(path).is_some();
    name.ends_with(std::path::is_separator) || path.is_dir() && !is_called_picture()
}

/// How images are drawn.
#[derive(Clone, Copy)]
pub(super) struct Drawing {
    /// Each pixel becomes a square of so many.
    pub scale: usize,
    /// Whether labels are written under images.
    pub labels: bool,
}

impl Drawing {
    /// Checks the scale.
    ///
    /// # Errors
    /// When it is 0, or larger than makes sense.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MAX_SCALE).contains(&self.scale) {
            return Err(Error::out_of_range(
                "scale",
                self.scale,
                format!("between 1 and {MAX_SCALE}"),
            ));
        }
        Ok(())
    }

    pub fn layout(&self) -> Layout {
        Layout { scale: self.scale, ..Layout::default() }
    }

    /// Checks that images of shape `[C, H, W]` can be drawn each by itself with these labels, before they
    /// are made. Width and height of the largest, in pixels.
    ///
    /// # Errors
    /// When one cannot be drawn, or gets too large.
    pub fn check_singles(
        &self,
        mut labels: impl Iterator<Item = String>,
        image_shape: [usize; 3],
    ) -> Result<[usize; 2]> {
        labels.try_fold([0; 2], |[width, height], label| {
            let alone = self.grid(1, 1, |_| label.clone());
            alone.check(image_shape)?;
            let size = alone.size(image_shape)?;
            Ok([width.max(size[0]), height.max(size[1])])
        })
    }

    /// A grid of so many images; `label` says what stands under each.
    pub fn grid(&self, n: usize, n_columns: usize, label: impl Fn(usize) -> String) -> Sheet {
        let labels = if self.labels { (0..n).map(label).collect() } else { Vec::new() };
        Sheet { labels, ..Sheet::grid(n, n_columns, self.layout()) }
    }
}

/// A picture of one image, in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Single {
    /// The file.
    pub path: PathBuf,
    /// What it says of how it came to be, its inputs among it.
    pub provenance: Provenance,
    /// What stands under the image; empty without labels.
    pub label: String,
}

impl Single {
    /// Whether the file is there already, whole, and says that it was made the same way from the same
    /// inputs.
    pub fn is_done(&self) -> bool {
        let Ok(texts) = render::read_png_text(&self.path) else { return false };
        // Pictures cannot hold zero bytes.
        let expected =
            self.provenance.texts.iter().map(|(key, text)| (key.clone(), text.replace('\0', " ")));
        texts == expected.collect() && render::read_png(&self.path).is_ok()
    }

    /// Draws image `index` of `images` and writes the file.
    ///
    /// # Errors
    /// When it cannot be drawn or written.
    pub fn write(&self, images: &Images, index: usize, drawing: &Drawing) -> Result<()> {
        let sheet =
            Sheet { places: vec![Some(index)], ..drawing.grid(1, 1, |_| self.label.clone()) };
        render::write_png(&self.path, &sheet.draw(images)?, &self.provenance.texts)
    }
}

/// The positions among `all` whose files are not done yet. Says how many are.
///
/// # Errors
/// When `control` stops the work.
pub(super) fn remaining(
    all: Range<usize>,
    single: &dyn Fn(usize) -> Single,
    control: &dyn Control,
) -> Result<Vec<usize>> {
    const STAGE: &str = "looking for images";
    let (first, count) = (all.start, all.len());
    let mut to_do = Vec::new();
    for at in all {
        if (at - first) % 64 == 0 {
            let (done, total) = ((at - first) as u64, Some(count as u64));
            control.check(&Report::progress(STAGE, done, total, "images"))?;
        }
        if !single(at).is_done() {
            to_do.push(at);
        }
    }
    if to_do.len() < count {
        let n_kept = count - to_do.len();
        let kept = format!("{n_kept} of {} done before", counted(count as u64, "image"));
        control.check(&Report::message(STAGE, &kept))?;
    }
    Ok(to_do)
}

/// A checksum over everything that images are computed from, besides the settings that their texts
/// name. A file that has the same texts and the same checksum is the same image.
#[derive(Clone, Default)]
pub(super) struct Inputs(Sha256);

impl Inputs {
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    pub fn values(mut self, values: &[f32]) -> Self {
        self.0.update((values.len() as u64).to_le_bytes());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.update(bytes);
        self
    }

    pub fn numbers(mut self, numbers: &[usize]) -> Self {
        self.0.update((numbers.len() as u64).to_le_bytes());
        numbers.iter().for_each(|&number| self.0.update((number as u64).to_le_bytes()));
        self
    }

    /// 16 hexadecimal digits.
    pub fn digits(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &str| Destination::of(Path::new(path), Animations::Possible);
        assert_eq!(of("a.png").unwrap(), Destination::Picture("a.png".into()));
        assert_eq!(of("no/such/").unwrap(), Destination::Folder("no/such/".into()));
        let there = folder.path().to_str().unwrap();
        assert_eq!(of(there).unwrap(), Destination::Folder(there.into()));
        let called_picture = folder.path().join("d.png");
        std::fs::create_dir(&called_picture).unwrap();
        let destination = of(called_picture.to_str().unwrap()).unwrap();
        assert!(matches!(destination, Destination::Picture(_)) && destination.prepare().is_err());
        let gif = Destination::Animation("a.GIF".into(), AnimationFormat::Gif);
        assert_eq!(of("a.GIF").unwrap(), gif);
        for (path, animations) in
            [("a.jpg", Animations::Possible), ("a", Animations::No), ("a.gif", Animations::No)]
        {
            let error = Destination::of(Path::new(path), animations).unwrap_err();
            assert!(error.to_string().contains("ends in .png"), "{error}");
            assert!(error.hint().unwrap().contains("in a folder"), "{error}");
        }
    }

    #[test]
    fn inputs_that_are_cut_elsewhere_are_others() {
        let digits = |a: &str, b: &str| Inputs::default().text(a).text(b).digits();
        assert_eq!(digits("ab", "c"), digits("ab", "c"));
        assert_ne!(digits("ab", "c"), digits("a", "bc"));
        let values = |values: &[f32]| Inputs::default().values(values).digits();
        assert_ne!(values(&[0.0]), values(&[-0.0]));
    }

    #[test]
    fn only_a_whole_file_that_says_the_same_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = Provenance::new().with("image", 3).with("inputs", "abc");
        let path = folder.path().join("a.png");
        let single = Single { path: path.clone(), provenance, label: "3".to_owned() };
        assert!(!single.is_done());
        let drawing = Drawing { scale: 2, labels: true };
        single.write(&Images::zeros([2, 3, 8, 8]), 1, &drawing).unwrap();
        assert!(single.is_done());
        let other = single.provenance.clone().with("eta", 1);
        assert!(!Single { provenance: other, ..single.clone() }.is_done());
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
        assert!(!single.is_done(), "cut short");
    }
}
