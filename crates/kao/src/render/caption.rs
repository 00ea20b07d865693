//! A picture with a line under it.

use super::font;
use super::picture::{Layout, Picture};
use crate::error::Result;

/// Pixels above, below and left of the line.
const MARGIN: usize = 3;

/// `picture` with `caption` under it, on the layout's background; what is too long for it is cut off.
///
/// # Errors
/// When the picture gets too large.
pub fn captioned(picture: &Picture, caption: &str, layout: &Layout) -> Result<Picture> {
    let footer = font::HEIGHT + 2 * MARGIN;
    let [width, height] = [picture.width(), picture.height()];
    let mut taller = Picture::new(width, height + footer, layout.background)?;
    taller.copy_top(picture);
    font::draw(&mut taller, caption, [MARGIN, height + MARGIN], 1, layout.ink());
    Ok(taller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_stands_under_the_picture() {
        let picture = Picture::new(40, 8, [9; 3]).unwrap();
        let layout = Layout::default();
        let taller = captioned(&picture, "step 4", &layout).unwrap();
        assert_eq!((taller.width(), taller.height()), (40, 8 + 14));
        assert_eq!(taller.rgb()[..40 * 8 * 3], *picture.rgb());
        let below = &taller.rgb()[40 * 8 * 3..];
        assert!(below.contains(&255) && below.contains(&0) && !below.contains(&9));
        assert!(captioned(&picture, &"long ".repeat(1000), &layout).is_ok());
    }
}
