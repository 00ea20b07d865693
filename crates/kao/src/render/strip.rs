//! Images at several moments of a process, side by side.

use super::picture::{Cells, Layout, Picture, common_shape};
use crate::error::Result;
use crate::images::Images;

/// Draws one row per image and one column per moment: `moments[m]` is the whole batch at moment
/// m, `[N, C, H, W]`, so the picture has N rows and as many columns as there are moments.
///
/// # Errors
/// When there is no image or moment, the batches differ in shape, the images cannot be drawn, or
/// the picture gets too large.
pub fn strip(moments: &[Images], layout: &Layout) -> Result<Picture> {
    let [n_images, channels, height, width] = common_shape(moments.iter())?;
    let cells = Cells::new([channels, height, width], *layout)?;
    let mut picture = cells.picture(moments.len(), n_images)?;
    for (column, images) in moments.iter().enumerate() {
        for row in 0..n_images {
            cells.draw(&mut picture, [column, row], images, row);
        }
    }
    Ok(picture)
}

/// Checks that [`strip`] can draw so many moments and images of shape `[C, H, W]`, before they are made.
///
/// # Errors
/// When such images cannot be drawn, or the picture gets too large.
pub fn check_strip(
    [n_moments, n_images]: [usize; 2],
    image_shape: [usize; 3],
    layout: &Layout,
) -> Result<()> {
    let [width, height] = Cells::new(image_shape, *layout)?.size(n_moments, n_images);
    Picture::check_size(width, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_images_and_columns_are_moments() {
        let moment = |values: [f32; 2]| Images::from_vec([2, 1, 1, 1], values.to_vec()).unwrap();
        let moments = [moment([-1.0, 1.0]), moment([0.0, 1.0]), moment([1.0, -1.0])];
        let layout = Layout { scale: 2, background: [7, 8, 9], ..Layout::default() };
        let picture = strip(&moments, &layout).unwrap();
        assert_eq!((picture.width(), picture.height()), (14, 10));
        assert_eq!(picture.pixel(1, 1), Some([7, 8, 9]));
        assert_eq!(picture.pixel(6, 3), Some([128; 3]));
        assert_eq!(picture.pixel(10, 2), Some([255; 3]));
        assert_eq!(picture.pixel(11, 7), Some([0; 3]));
    }

    #[test]
    fn moments_of_different_shapes_are_refused() {
        let layout = Layout::default();
        let moments = [Images::zeros([2, 3, 4, 4]), Images::zeros([1, 3, 4, 4])];
        assert!(strip(&moments, &layout).is_err());
        assert!(strip(&[], &layout).is_err());
    }
}
