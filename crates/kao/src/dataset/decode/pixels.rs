//! From what files store to opaque bytes of red, green and blue.

/// 16 bits to 8, rounded to nearest.
pub(super) fn byte_of_u16(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// A value from 0 to 1 to 8 bits, rounded to nearest. What lies outside becomes the nearer end.
pub(super) fn byte_of_f32(value: f32) -> u8 {
    // A cast saturates, and makes 0 of what is no number.
    (value * 255.0).round() as u8
}

/// A colour over a white ground, rounded to nearest.
pub(super) fn over_white(colour: [u8; 3], alpha: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    colour.map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

/// Inks of cyan, magenta and yellow, and of black over them, as Pillow turns them to colours.
pub(super) fn over_black_ink(inks: [u8; 3], black: u8) -> [u8; 3] {
    let light = 255 - u32::from(black);
    inks.map(|ink| {
        let product = u32::from(ink) * light + 128;
        // The product by 255, rounded to nearest.
        let covered = (product + (product >> 8)) >> 8;
        light.saturating_sub(covered) as u8
    })
}

/// RGBA to RGB over white, in the same memory.
pub(super) fn flatten_rgba(mut pixels: Vec<u8>) -> Vec<u8> {
    let n_pixels = pixels.len() / 4;
    for index in 0..n_pixels {
        let start = index * 4;
        let colour = [pixels[start], pixels[start + 1], pixels[start + 2]];
        let flat = over_white(colour, pixels[start + 3]);
        pixels[index * 3..][..3].copy_from_slice(&flat);
    }
    pixels.truncate(n_pixels * 3);
    pixels.shrink_to_fit();
    pixels
}

/// The pixels `[height, width, 3]` turned as the EXIF orientation (1 to 8) says, and their new
/// width and height.
pub(super) fn upright(
    pixels: Vec<u8>,
    [width, height]: [u32; 2],
    orientation: u8,
) -> (Vec<u8>, [u32; 2]) {
    if !(2..=8).contains(&orientation) {
        return (pixels, [width, height]);
    }
    let [w, h] = [width, height].map(|side| side as usize);
    let is_turned = orientation >= 5;
    let size = if is_turned { [height, width] } else { [width, height] };
    let [out_w, out_h] = size.map(|side| side as usize);
    let mut turned = Vec::with_capacity(pixels.len());
    for y in 0..out_h {
        for x in 0..out_w {
            // Where what shows at (x, y) is stored. EXIF 2.32, tag 0x0112: orientation 6 stores
            // the top row as the right-hand side.
            let (from_x, from_y) = match orientation {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            turned.extend_from_slice(&pixels[(from_y * w + from_x) * 3..][..3]);
        }
    }
    (turned, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_multiply() {
        assert_eq!(over_black_ink([0, 0, 0], 0), [255, 255, 255]);
        assert_eq!(over_black_ink([255, 0, 128], 0), [0, 255, 127]);
        assert_eq!(over_black_ink([0, 200, 255], 255), [0, 0, 0]);
        // Pillow 13.0.0: Image.new("CMYK", (1, 1), (40, 90, 7, 100)).convert("RGB")
        assert_eq!(over_black_ink([40, 90, 7], 100), [131, 100, 151]);
    }

    #[test]
    fn deep_values_are_rounded_to_nearest() {
        for value in 0..=255u8 {
            assert_eq!(byte_of_u16(u16::from(value) * 257), value);
            assert_eq!(byte_of_f32(f32::from(value) / 255.0), value);
        }
        assert_eq!([byte_of_u16(128), byte_of_u16(129), byte_of_u16(u16::MAX)], [0, 1, 255]);
        assert_eq!([f32::NAN, -1.0, 2.0, f32::INFINITY].map(byte_of_f32), [0, 0, 255, 255]);
    }
}
