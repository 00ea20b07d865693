//! A batch of images as a grid.

use super::picture::{Cells, Layout, Picture, common_shape};
use crate::error::{Error, Result};
use crate::images::Images;

/// Draws `images` in rows of `n_columns`, as torchvision's `make_grid` and `save_image` do: from
/// left to right, then down, with the layout's padding between and around them. Fewer images
/// than columns make a narrower picture, and a single image has no padding.
///
/// # Errors
/// When there is no image or column, the images cannot be drawn, or the picture gets too large.
pub fn grid(images: &Images, n_columns: usize, layout: &Layout) -> Result<Picture> {
    let [n_images, ..] = common_shape([images].into_iter())?;
    let (cells, [n_columns, n_rows]) = cells(n_images, images.image_shape(), n_columns, layout)?;
    let mut picture = cells.picture(n_columns, n_rows)?;
    for index in 0..n_images {
        cells.draw(&mut picture, [index % n_columns, index / n_columns], images, index);
    }
    Ok(picture)
}

/// Checks that [`grid`] can draw `n_images` images of shape `[C, H, W]`, before they are made.
///
/// # Errors
/// As [`grid`].
pub fn check_grid(
    n_images: usize,
    image_shape: [usize; 3],
    n_columns: usize,
    layout: &Layout,
) -> Result<()> {
    let (cells, [n_columns, n_rows]) = cells(n_images, image_shape, n_columns, layout)?;
    let [width, height] = cells.size(n_columns, n_rows);
    Picture::check_size(width, height)
}

/// The cells of a grid, and how many columns and rows of them there are.
fn cells(
    n_images: usize,
    image_shape: [usize; 3],
    n_columns: usize,
    layout: &Layout,
) -> Result<(Cells, [usize; 2])> {
    for (what, n) in [("count", n_images), ("columns", n_columns)] {
        if n == 0 {
            return Err(Error::out_of_range(what, 0, "at least 1"));
        }
    }
    let padding = if n_images == 1 { 0 } else { layout.padding };
    let cells = Cells::new(image_shape, Layout { padding, ..*layout })?;
    let n_columns = n_columns.min(n_images);
    Ok((cells, [n_columns, n_images.div_ceil(n_columns)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of H × W = 2 × 3, each of one value.
    fn flat(values: &[f32], channels: usize) -> Images {
        let data = values.iter().flat_map(|&v| vec![v; channels * 6]).collect();
        Images::from_vec([values.len(), channels, 2, 3], data).unwrap()
    }

    #[test]
    fn torchvision_draws_the_same() {
        // `testdata/make_grid.py` made the picture.
        let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/src/render/testdata/grid.png");
        let shape = [7, 3, 5, 4];
        let n_values = shape.iter().product::<usize>();
        let data = (0..n_values).map(|i| (37 * i % 300) as f32 / 127.5 - 1.1).collect();
        let images = Images::from_vec(shape, data).unwrap();
        let picture = grid(&images, 3, &Layout::default()).unwrap();
        assert!(picture == crate::render::read_png(expected).unwrap());
    }

    #[test]
    fn five_images_in_two_columns() {
        let images = flat(&[-1.0, 0.0, 1.0, 3.0, -0.5], 3);
        let picture = grid(&images, 2, &Layout::default()).unwrap();
        // torchvision: height 3·(2 + 2) + 2, width 2·(3 + 2) + 2.
        assert_eq!((picture.width(), picture.height()), (12, 14));
        assert_eq!(picture.pixel(7, 2), Some([128; 3]));
        assert_eq!(picture.pixel(2, 6), Some([255; 3]));
        assert_eq!(picture.pixel(9, 7), Some([255; 3]));
        assert_eq!(picture.pixel(4, 11), Some([64; 3]));
        for (x, y) in [(6, 2), (5, 2), (1, 6), (2, 5), (10, 2), (7, 10), (11, 13)] {
            assert_eq!(picture.pixel(x, y), Some([0; 3]), "padding at {x}, {y}");
        }
    }

    #[test]
    fn fewer_images_than_columns_make_a_narrower_grid() {
        let picture = grid(&flat(&[1.0, 1.0], 1), 8, &Layout::default()).unwrap();
        assert_eq!((picture.width(), picture.height()), (12, 6));
        let single = grid(&flat(&[1.0], 1), 8, &Layout::default()).unwrap();
        assert_eq!((single.width(), single.height()), (3, 2));
    }

    #[test]
    fn channels_stay_apart() {
        let data = vec![-1.0, 0.0, 1.0, 1.0, 1.0, -1.0];
        let images = Images::from_vec([1, 3, 1, 2], data).unwrap();
        let picture = grid(&images, 1, &Layout { scale: 2, ..Layout::default() }).unwrap();
        assert_eq!((picture.width(), picture.height()), (4, 2));
        assert_eq!(picture.pixel(1, 1), Some([0, 255, 255]));
        assert_eq!(picture.pixel(2, 0), Some([128, 255, 0]));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let layout = Layout::default();
        assert!(check_grid(2, [3, 2, 2], 8, &layout).is_ok());
        assert!(check_grid(usize::MAX, [3, 2, 2], 8, &layout).is_err());
        assert!(check_grid(0, [3, 2, 2], 8, &layout).is_err());
        assert!(check_grid(2, [3, 2, 2], 0, &layout).is_err());
        assert!(grid(&Images::zeros([0, 3, 2, 2]), 8, &layout).is_err());
        assert!(grid(&Images::zeros([2, 2, 2, 2]), 8, &layout).is_err());
        assert!(grid(&Images::zeros([2, 3, 0, 2]), 8, &layout).is_err());
        assert!(grid(&Images::zeros([2, 3, 2, 2]), 0, &layout).is_err());
        assert!(grid(&Images::zeros([2, 3, 2, 2]), 8, &Layout { scale: 0, ..layout }).is_err());
        let padding = usize::MAX;
        assert!(grid(&Images::zeros([2, 3, 2, 2]), 8, &Layout { padding, ..layout }).is_err());
    }
}
