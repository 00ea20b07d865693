//! Pictures and their masks at the size of the model.

use super::{Edit, shown};
use crate::control::{Control, Report};
use crate::dataset::Picture;
use crate::error::{Error, Result};
use crate::images::Images;
use std::path::Path;

/// Sides may differ from a shape by so much, in pixels, and still be that shape scaled.
const ROUNDING: f64 = 1.0;

/// Pictures and masks, ready for the model.
pub(super) struct Prepared {
    /// `[P, C, H, W]`.
    pub pictures: Images,
    /// The share of each pixel that is made anew, `[P, 1, H, W]`; none without a mask.
    pub masks: Option<Images>,
}

impl Prepared {
    /// Reads what `edit` names, for a model of images of `[C, H, W]`. What becomes of pictures of
    /// other sizes is reported.
    ///
    /// # Errors
    /// When a file holds no picture, the mask has another shape than a picture, or is black all over;
    /// when `control` stops the work.
    pub fn read(edit: &Edit, [c, h, w]: [usize; 3], control: &dyn Control) -> Result<Self> {
        const STAGE: &str = "reading";
        // Models have sides of a few hundred pixels.
        let size = [w as u32, h as u32];
        let mask = edit.mask.as_deref().map(read).transpose()?;
        let (mut pictures, mut masks) = (Images::zeros([0, c, h, w]), Images::zeros([0, 1, h, w]));
        let (mut n_changed, mut n_enlarged, mut says_scaled) = (0, 0, true);
        for (index, path) in edit.pictures.iter().enumerate() {
            let (done, total) = (index as u64, Some(edit.pictures.len() as u64));
            control.check(&Report::progress(STAGE, done, total, "pictures"))?;
            let picture = read(path)?;
            let sides = [picture.width(), picture.height()];
            n_changed += usize::from(sides != size);
            n_enlarged += usize::from(picture.is_smaller_than(size[0], size[1]));
            let picture = if c == 1 { picture.into_luma() } else { picture };
            let picture = picture.fit(size[0], size[1], edit.fit)?;
            pictures.append(&Images::from_bytes_nhwc([1, c, h, w], picture.bytes())?)?;
            let (Some(mask), Some(mask_path)) = (&mask, &edit.mask) else { continue };
            let mask_sides = [mask.width(), mask.height()];
            let mask = fitted(mask, mask_path, (sides, path), size, edit)?;
            if mask_sides != sides && std::mem::take(&mut says_scaled) {
                let [mask_width, mask_height] = mask_sides;
                let note = format!(
                    "note: the mask, {mask_width} × {mask_height} pixels, is scaled to `{}`, {} × {}",
                    shown(path),
                    sides[0],
                    sides[1]
                );
                control.check(&Report::message(STAGE, &note))?;
            }
            let shares = mask.bytes().iter().map(|&byte| f32::from(byte) / 255.0).collect();
            masks.append(&Images::from_vec([1, 1, h, w], shares)?)?;
        }
        if n_changed > 0 {
            let n = edit.pictures.len();
            let enlarged = match n_enlarged {
                0 => String::new(),
                n => format!(", {n} of them enlarged, which blurs"),
            };
            let note = format!(
                "note: {n_changed} of {n} pictures cropped or scaled to the model's {w} × {h} pixels\
                 {enlarged}"
            );
            control.check(&Report::message(STAGE, &note))?;
        }
        let masks = mask.map(|_| masks);
        if let (Some(masks), Some(path)) = (&masks, &edit.mask) {
            if masks.data().iter().all(|&share| share == 0.0) {
                let problem = "black all over where the pictures are; nothing is to be made anew";
                return Err(Error::malformed(path, problem)
                    .with_hint("what is to be painted is white in a mask, what stays is black"));
            }
            if masks.data().iter().all(|&share| share == 1.0) {
                let warning = "warning: the mask is white all over, so nothing of the pictures is \
                               kept";
                control.check(&Report::message(STAGE, warning))?;
            }
        }
        Ok(Prepared { pictures, masks })
    }
}

fn read(path: impl AsRef<Path>) -> Result<Picture> {
    let path = path.as_ref();
    if path.is_dir() {
        return Err(Error::malformed(path, "this is a folder; expected a picture"));
    }
    Picture::read(path).map_err(|error| Error::malformed(path, error))
}

/// The mask, cropped and scaled as the picture of `sides` is.
fn fitted(
    mask: &Picture,
    mask_path: &Path,
    (sides, path): ([u32; 2], &Path),
    size: [u32; 2],
    edit: &Edit,
) -> Result<Picture> {
    let own = [mask.width(), mask.height()];
    // A mask that was drawn on the prepared picture fits it as it is.
    let is_fitted = own == sides || own == size || is_scaled(own, sides);
    if !is_fitted {
        let problem = format!(
            "a mask of {} × {} pixels; expected the {} × {} of `{}`, or the same shape",
            own[0],
            own[1],
            sides[0],
            sides[1],
            shown(path)
        );
        return Err(Error::malformed(mask_path, problem));
    }
    mask.clone().into_luma().fit(size[0], size[1], edit.fit)
}

/// Whether a picture of `one` and another of `other` pixels have the same shape.
fn is_scaled(one: [u32; 2], other: [u32; 2]) -> bool {
    let [w, h] = one.map(f64::from);
    let [other_w, other_h] = other.map(f64::from);
    // The sides of the smaller one, as the larger one has them.
    let off = |w: f64, h: f64, by: f64| (w * by - h).abs() <= ROUNDING * by.max(1.0);
    match w * h <= other_w * other_h {
        true => off(w, other_w * h / other_h, 1.0),
        false => off(other_w, w * other_h / h, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_the_same_within_a_pixel() {
        assert!(is_scaled([64, 64], [640, 640]));
        assert!(is_scaled([100, 67], [1000, 667]));
        assert!(is_scaled([1000, 667], [100, 67]));
        assert!(!is_scaled([64, 60], [640, 640]));
        assert!(!is_scaled([640, 480], [480, 640]));
    }
}
