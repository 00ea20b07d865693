//! An RGB picture, and cells laid out in rows and columns on one.

use crate::error::{Error, Result};
use crate::images::Images;

/// The largest picture: as much as most programs will open, and 2 GiB in memory.
const MAX_BYTES: usize = 1 << 31;
/// What PNG can express.
const MAX_SIDE: usize = (1 << 31) - 1;

/// A picture, 8 bits for each of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    ///
    /// # Errors
    /// When it would be empty, or larger than 2 GiB.
    pub fn new(width: usize, height: usize, colour: [u8; 3]) -> Result<Self> {
        Picture::check_size(width, height)?;
        Ok(Picture { width, height, rgb: colour.repeat(width * height) })
    }

    /// Whether there can be a picture of such a size.
    pub(super) fn check_size(width: usize, height: usize) -> Result<()> {
        let n_pixels = width.checked_mul(height);
        let n_bytes = n_pixels.and_then(|n| n.checked_mul(3)).filter(|&n| n <= MAX_BYTES);
        match n_bytes {
            Some(1..) if width.max(height) <= MAX_SIDE => Ok(()),
            _ => Err(Error::invalid(
                "picture",
                format!(
                    "{width} × {height} pixels found; expected at least 1 × 1, at most {} million",
                    MAX_BYTES / 3 / 1_000_000
                ),
            )),
        }
    }

    /// Wraps `rgb`, row-major, three bytes per pixel.
    ///
    /// # Errors
    /// When `rgb` does not hold exactly `3 · width · height` bytes, or none.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(rgb.len()) || rgb.is_empty() {
            return Err(Error::invalid(
                "picture",
                format!("{} bytes given for {width} × {height} pixels", rgb.len()),
            ));
        }
        Ok(Picture { width, height, rgb })
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row-major, three bytes each.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The colour at column `x` of row `y`, where there is such a pixel.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        self.rgb.as_chunks().0.get(y * self.width + x).copied()
    }

    /// Colours a rectangle; what lies outside the picture is left out.
    pub(super) fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], rgb: [u8; 3]) {
        let columns = x.min(self.width)..x.saturating_add(width).min(self.width);
        for row in y.min(self.height)..y.saturating_add(height).min(self.height) {
            let row = &mut self.rgb[row * self.width * 3..][..self.width * 3];
            for pixel in &mut row.as_chunks_mut().0[columns.clone()] {
                *pixel = rgb;
            }
        }
    }

    /// Copies `other`, which is as wide and no taller, to the top.
    pub(super) fn copy_top(&mut self, other: &Picture) {
        self.rgb[..other.rgb.len()].copy_from_slice(&other.rgb);
    }

    /// Draws image `index` with its upper left corner at `x`, `y`, each of its pixels a square
    /// of `scale` pixels. Images of one channel are drawn in grey.
    pub(super) fn draw(&mut self, images: &Images, index: usize, [x, y]: [usize; 2], scale: usize) {
        let [channels, _, width] = images.image_shape();
        for (i, pixel) in images.to_bytes_hwc(index).chunks_exact(channels).enumerate() {
            let (row, column) = (i / width, i % width);
            let rgb =
                if let &[red, green, blue] = pixel { [red, green, blue] } else { [pixel[0]; 3] };
            self.fill([x + column * scale, y + row * scale], [scale, scale], rgb);
        }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} × {})", self.width, self.height)
    }
}

/// How images are laid out on a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Pixels between images, and around them all.
    pub padding: usize,
    /// The colour of the padding and of empty places.
    pub background: [u8; 3],
    /// Each pixel of an image becomes a square of so many pixels; at least 1.
    pub scale: usize,
}

impl Default for Layout {
    /// As the original: 2 pixels of black, not enlarged.
    fn default() -> Self {
        Layout { padding: 2, background: [0; 3], scale: 1 }
    }
}

impl Layout {
    /// The colour of words on the background: black on a light one, white on a dark one.
    pub(super) fn ink(&self) -> [u8; 3] {
        let brightness: u16 = self.background.iter().copied().map(u16::from).sum();
        if brightness < 3 * 128 { [255; 3] } else { [0; 3] }
    }
}

/// Places of one size in rows and columns, with padding between and around them.
pub(super) struct Cells {
    layout: Layout,
    /// Pixels of an image, enlarged: width and height.
    image: [usize; 2],
    /// Pixels of a cell: at least those of an image.
    cell: [usize; 2],
    /// Pixels above the first row.
    header: usize,
    /// Pixels of a cell below its image.
    footer: usize,
}

impl Cells {
    /// Cells for images of the shape `[C, H, W]`.
    ///
    /// # Errors
    /// When they cannot be drawn: not 1 or 3 channels, no pixels, a scale of 0.
    pub fn new([channels, height, width]: [usize; 3], layout: Layout) -> Result<Self> {
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            return Err(Error::invalid(
                "images",
                format!(
                    "shape [{channels}, {height}, {width}] cannot be drawn, expected 1 or 3 channels"
                ),
            ));
        }
        if layout.scale == 0 {
            return Err(Error::invalid("scale", "0 given, expected at least 1"));
        }
        let image = [width, height].map(|side| side.saturating_mul(layout.scale));
        Ok(Cells { layout, image, cell: image, header: 0, footer: 0 })
    }

    /// The same cells below a header, and at least `width` pixels wide.
    pub fn with_header(mut self, height: usize, width: usize) -> Self {
        self.header = height;
        self.cell[0] = self.cell[0].max(width);
        self
    }

    /// The same cells with so much room under each image, and at least `width` pixels wide.
    pub fn with_footer(mut self, height: usize, width: usize) -> Self {
        self.footer = height;
        self.cell = [self.cell[0].max(width), self.cell[1].saturating_add(height)];
        self
    }

    /// An empty picture for so many columns and rows.
    pub fn picture(&self, n_columns: usize, n_rows: usize) -> Result<Picture> {
        let [width, height] = self.size(n_columns, n_rows);
        Picture::new(width, height, self.layout.background)
    }

    /// Width and height of that picture.
    pub fn size(&self, n_columns: usize, n_rows: usize) -> [usize; 2] {
        let side = |cell: usize, n: usize| {
            let pitch = cell.saturating_add(self.layout.padding);
            pitch.saturating_mul(n).saturating_add(self.layout.padding)
        };
        let height = side(self.cell[1], n_rows).saturating_add(self.header);
        [side(self.cell[0], n_columns), height]
    }

    /// The left edge and the width of a column.
    pub fn column(&self, column: usize) -> [usize; 2] {
        [self.layout.padding + column * (self.cell[0] + self.layout.padding), self.cell[0]]
    }

    /// The upper edge of what is below the images of a row.
    pub fn below(&self, row: usize) -> usize {
        self.top(row) + self.image[1]
    }

    fn top(&self, row: usize) -> usize {
        self.header + self.layout.padding + row * (self.cell[1] + self.layout.padding)
    }

    /// Draws image `index` in the middle of a cell of `picture`.
    pub fn draw(&self, picture: &mut Picture, at: [usize; 2], images: &Images, index: usize) {
        let [column, row] = at;
        let x = self.column(column)[0] + (self.cell[0] - self.image[0]) / 2;
        picture.draw(images, index, [x, self.top(row)], self.layout.scale);
    }
}

/// Checks that batches have the same shape, and at least one image.
pub(super) fn common_shape<'a>(
    mut batches: impl Iterator<Item = &'a Images>,
) -> Result<[usize; 4]> {
    let none = || Error::invalid("images", "there are none to draw");
    let shape = batches.next().ok_or_else(none)?.shape();
    if shape[0] == 0 {
        return Err(none());
    }
    match batches.map(Images::shape).find(|other| *other != shape) {
        Some(other) => Err(Error::invalid(
            "images",
            format!("batches of shapes {shape:?} and {other:?} cannot be drawn side by side"),
        )),
        None => Ok(shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        for (width, height) in [(0, 5), (5, 0), (usize::MAX, 2), (1 << 16, 1 << 16)] {
            assert!(Picture::new(width, height, [0; 3]).is_err());
        }
        assert!(Picture::from_rgb(2, 2, vec![0; 11]).is_err());
        assert!(Picture::from_rgb(0, 2, vec![]).is_err());
    }

    #[test]
    fn filling_stops_at_the_edges() {
        let mut picture = Picture::new(3, 2, [9; 3]).unwrap();
        picture.fill([2, 1], [usize::MAX, 7], [1, 2, 3]);
        picture.fill([7, 7], [1, 1], [4; 3]);
        assert_eq!(picture.pixel(2, 1), Some([1, 2, 3]));
        assert_eq!(picture.pixel(1, 1), Some([9; 3]));
        assert_eq!(picture.pixel(3, 1), None);
    }
}
