//! Batches side by side, each in a column under its name.

use super::font;
use super::picture::{Cells, Layout, Picture, common_shape};
use crate::error::Result;
use crate::images::Images;

/// Pixels above and below the names, for each pixel of a letter's dot.
const MARGIN: usize = 2;

/// Draws one column per batch, with its label above, and one row per image: "original", "noisy"
/// and "recovered", for example. Labels are black on a light background and white on a dark one,
/// as large as the scale of the images allows; a column is as wide as its images or the longest
/// label.
///
/// # Errors
/// When there is no image or column, the batches differ in shape, the images cannot be drawn, or
/// the picture gets too large.
pub fn labelled_columns(columns: &[(&str, &Images)], layout: &Layout) -> Result<Picture> {
    let [n_images, channels, height, width] = common_shape(columns.iter().map(|column| column.1))?;
    let widest = columns.iter().map(|(label, _)| font::width(label)).max().unwrap_or(0);
    let letter_scale =
        (width.saturating_mul(layout.scale) / widest.max(1)).clamp(1, layout.scale.max(1));
    let header = (MARGIN + font::HEIGHT + MARGIN) * letter_scale;
    let cells = Cells::new([channels, height, width], *layout)?
        .with_header(header, widest.saturating_mul(letter_scale));

    let ink = layout.ink();
    let mut picture = cells.picture(columns.len(), n_images)?;
    for (column, (label, images)) in columns.iter().enumerate() {
        let [left, width] = cells.column(column);
        let x = left + (width - font::width(label) * letter_scale) / 2;
        let y = layout.padding + MARGIN * letter_scale;
        font::draw(&mut picture, label, [x, y], letter_scale, ink);
        for row in 0..n_images {
            cells.draw(&mut picture, [column, row], images, row);
        }
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(
        picture: &Picture,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> usize {
        let at = |x| rows.clone().filter(move |&y| picture.pixel(x, y) == Some([255; 3])).count();
        columns.map(at).sum()
    }

    #[test]
    fn every_column_has_its_label_and_its_images() {
        let (grey, noisy) = (Images::zeros([2, 3, 64, 64]), Images::zeros([2, 3, 64, 64]));
        let picture =
            labelled_columns(&[("original", &grey), ("noisy", &noisy)], &Layout::default())
                .unwrap();
        assert_eq!((picture.width(), picture.height()), (2 + 2 * 66, 12 + 2 + 2 * 66));
        assert!(ink(&picture, 0..14, 0..67) > ink(&picture, 0..14, 67..134));
        assert!(ink(&picture, 0..14, 67..134) > 0);
        assert_eq!(picture.pixel(2, 14), Some([128; 3]));
        assert_eq!(picture.pixel(131, 143), Some([128; 3]));
        assert_eq!(picture.pixel(132, 144), Some([0; 3]));
    }

    #[test]
    fn narrow_images_get_room_for_their_label() {
        let images = Images::zeros([1, 1, 8, 8]);
        let picture = labelled_columns(&[("recovered", &images)], &Layout::default()).unwrap();
        assert_eq!(picture.width(), 2 + 53 + 2);
        // In the middle.
        assert_eq!(picture.pixel(2 + 21, 14), Some([0; 3]));
        assert_eq!(picture.pixel(2 + 22, 14), Some([128; 3]));
    }
}
