//! Tests of the room through its public face, on pictures made here or stored in `testdata`.

mod archives;
mod covered;
mod decode;
mod fit;
mod folder;
mod loader;
mod prepare;
mod resumed;
mod tags;

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, RgbImage};

/// A picture whose content depends on `seed`, with structure at every scale.
fn sample(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| {
            let mixed = (x * 7 + y * 13 + c * 31 + seed * 101).wrapping_mul(2654435761) >> 24;
            ((mixed / 4) + (x * 191 / width.max(1))) as u8
        }))
    })
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut content = Cursor::new(Vec::new());
    match format {
        // Without `image`, whose feature would have `tiff` built once more for the tests.
        ImageFormat::Tiff => {
            let rgb = image.into().into_rgb8();
            let mut encoder = tiff::encoder::TiffEncoder::new(&mut content).unwrap();
            encoder
                .write_image::<tiff::encoder::colortype::RGB8>(rgb.width(), rgb.height(), &rgb)
                .unwrap();
        }
        format => image.into().write_to(&mut content, format).unwrap(),
    }
    content.into_inner()
}

fn write(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
