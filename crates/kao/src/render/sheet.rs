//! Images in rows, each with a label under it.

use super::font;
use super::picture::{Cells, Layout, Picture};
use crate::error::{Error, Result};
use crate::images::Images;

/// Pixels above and below a label, for each pixel of a letter's dot.
const MARGIN: usize = 2;
/// Pixels between two lines of a label.
const LEADING: usize = 2;
/// A label has at most so many lines; what is beyond is cut off.
const MAX_LINES: usize = 4;
/// A longer label is cut before it is drawn.
const MAX_CHARS: usize = 400;

/// Which images stand where on a sheet, and what is written under them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Row by row, the position of each image in the batch; places without an image stay empty.
    pub places: Vec<Option<usize>>,
    /// The labels of the places, or none at all.
    pub labels: Vec<String>,
    /// Labels of other sheets: there is as much room for labels as on those.
    pub other_labels: Vec<String>,
    /// Columns.
    pub n_columns: usize,
    /// Padding, background and scale. A single place has no padding.
    pub layout: Layout,
}

impl Sheet {
    /// A grid of so many images without labels.
    pub fn grid(n_images: usize, n_columns: usize, layout: Layout) -> Self {
        let places = (0..n_images).map(Some).collect();
        Sheet { places, labels: Vec::new(), other_labels: Vec::new(), n_columns, layout }
    }

    /// Checks that [`draw`](Self::draw) can draw images of shape `[C, H, W]`, before they are made.
    ///
    /// # Errors
    /// As [`draw`](Self::draw), but for places without an image.
    pub fn check(&self, image_shape: [usize; 3]) -> Result<()> {
        let [width, height] = self.size(image_shape)?;
        Picture::check_size(width, height)
    }

    /// Width and height in pixels, for images of shape `[C, H, W]`.
    ///
    /// # Errors
    /// When there is no place or column, or such images cannot be drawn.
    pub fn size(&self, image_shape: [usize; 3]) -> Result<[usize; 2]> {
        Ok(self.measured(image_shape)?.size())
    }

    /// Draws the sheet. Labels are broken between words to the width of an image; a column is wider
    /// where a word is.
    ///
    /// # Errors
    /// When there is no place or column, a place names an image that is not there, the images cannot
    /// be drawn, or the picture gets too large.
    pub fn draw(&self, images: &Images) -> Result<Picture> {
        let measured = self.measured(images.image_shape())?;
        if let Some(place) = self.places.iter().flatten().find(|place| **place >= images.len()) {
            let problem = format!("image {place} of {} is to be drawn", images.len());
            return Err(Error::invalid("images", problem));
        }
        let Measured { cells, size: [n_columns, n_rows], labels, letter_scale } = &measured;
        let mut picture = cells.picture(*n_columns, *n_rows)?;
        let ink = self.layout.ink();
        for (at, place) in self.places.iter().enumerate() {
            let [column, row] = [at % n_columns, at / n_columns];
            if let Some(index) = place {
                cells.draw(&mut picture, [column, row], images, *index);
            }
            let [left, width] = cells.column(column);
            for (number, line) in labels.get(at).into_iter().flatten().enumerate() {
                let x = left + (width - (font::width(line) * letter_scale).min(width)) / 2;
                let below = MARGIN + number * (font::HEIGHT + LEADING);
                let y = cells.below(row) + below * letter_scale;
                font::draw(&mut picture, line, [x, y], *letter_scale, ink);
            }
        }
        Ok(picture)
    }

    fn measured(&self, image_shape: [usize; 3]) -> Result<Measured> {
        for (what, n) in [("count", self.places.len()), ("columns", self.n_columns)] {
            if n == 0 {
                return Err(Error::out_of_range(what, 0, "at least 1"));
            }
        }
        let padding = if self.places.len() == 1 { 0 } else { self.layout.padding };
        let cells = Cells::new(image_shape, Layout { padding, ..self.layout })?;
        // Half as large as the images are enlarged: labels are to be read, not looked at.
        let letter_scale = self.layout.scale.div_ceil(2);
        let image_width = image_shape[2].saturating_mul(self.layout.scale);
        let max_letters = (image_width / letter_scale + 1) / font::PITCH;
        let labels: Vec<Vec<String>> =
            self.labels.iter().map(|label| lines(label, max_letters)).collect();
        let others: Vec<Vec<String>> =
            self.other_labels.iter().map(|label| lines(label, max_letters)).collect();
        let all = || labels.iter().chain(&others);
        let n_lines = all().map(Vec::len).max().unwrap_or(0);
        let widest = all().flatten().map(|line| font::width(line)).max().unwrap_or(0);
        let footer = match n_lines {
            0 => 0,
            n => 2 * MARGIN + n * (font::HEIGHT + LEADING) - LEADING,
        };
        let cells = cells
            .with_footer(footer.saturating_mul(letter_scale), widest.saturating_mul(letter_scale));
        let n_columns = self.n_columns.min(self.places.len());
        let size = [n_columns, self.places.len().div_ceil(n_columns)];
        Ok(Measured { cells, size, labels, letter_scale })
    }
}

/// A sheet whose places and labels are measured.
struct Measured {
    cells: Cells,
    /// Columns and rows.
    size: [usize; 2],
    /// The lines of each label.
    labels: Vec<Vec<String>>,
    letter_scale: usize,
}

impl Measured {
    fn size(&self) -> [usize; 2] {
        self.cells.size(self.size[0], self.size[1])
    }
}

/// `label` in lines of at most `max_letters`, unless a word is longer.
fn lines(label: &str, max_letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let label: String = label.chars().take(MAX_CHARS).collect();
    for word in label.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= max_letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.truncate(MAX_LINES);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::grid;

    fn images(n: usize) -> Images {
        let data = (0..n * 3 * 16 * 16).map(|i| (37 * i % 300) as f32 / 127.5 - 1.1).collect();
        Images::from_vec([n, 3, 16, 16], data).unwrap()
    }

    #[test]
    fn without_labels_it_is_a_grid() {
        for (n, n_columns, scale) in [(1, 8, 1), (5, 2, 1), (4, 4, 3)] {
            let layout = Layout { scale, ..Layout::default() };
            let sheet = Sheet::grid(n, n_columns, layout);
            assert!(
                sheet.draw(&images(n)).unwrap() == grid(&images(n), n_columns, &layout).unwrap()
            );
            assert!(sheet.check([3, 16, 16]).is_ok());
        }
    }

    #[test]
    fn labels_stand_under_their_images_and_empty_places_stay_empty() {
        let layout = Layout { scale: 2, ..Layout::default() };
        let labels = ["17", "", "a b"].map(str::to_owned).to_vec();
        let sheet = Sheet {
            places: vec![Some(1), None, Some(0)],
            labels,
            n_columns: 2,
            ..Sheet::grid(1, 1, layout)
        };
        let picture = sheet.draw(&images(2)).unwrap();
        let row = 32 + 2 * MARGIN + font::HEIGHT + 2;
        assert_eq!((picture.width(), picture.height()), (2 + 2 * 34, 2 + 2 * row));
        let picture = &picture;
        let white = |x: std::ops::Range<usize>, y: std::ops::Range<usize>| {
            let places = x.flat_map(|x| y.clone().map(move |y| (x, y)));
            places.filter(|&(x, y)| picture.pixel(x, y) == Some([255; 3])).count()
        };
        assert!(white(2..34, 34..46) > 10, "the first label");
        assert_eq!(white(36..68, 2..46), 0, "an empty place");
        assert!(white(2..34, 2 + row + 32..2 + 2 * row) > 10, "the label of the second row");
        let others = vec!["a longer label than all of them".to_owned()];
        let roomier = Sheet { other_labels: others, ..sheet.clone() };
        assert!(roomier.size([3, 16, 16]).unwrap()[1] > picture.height());
        let missing = Sheet { places: vec![Some(2)], ..sheet };
        assert!(missing.draw(&images(2)).is_err());
    }

    #[test]
    fn labels_are_broken_between_words() {
        assert_eq!(lines("blue hair, smile", 10), ["blue hair,", "smile"]);
        assert_eq!(lines("extraordinary", 5), ["extraordinary"]);
        assert_eq!(lines("a b c d e f", 1).len(), MAX_LINES);
        assert_eq!(lines("", 10), [""; 0]);
    }
}
