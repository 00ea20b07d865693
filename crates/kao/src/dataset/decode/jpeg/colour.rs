//! From the components of a JPEG file to red, green and blue, with libjpeg's rules of which
//! components they are and its rounding.

use super::super::DecodeError;
use super::super::pixels::over_black_ink;
use super::Meaning;
use super::header::Header;

/// What the components of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    /// Four inks, stored as what they leave of the paper: 255 is none, as Adobe writes them.
    Cmyk,
    /// The first three of these as YCbCr.
    Ycck,
    /// Four inks, stored as how much there is of each.
    Inks,
}

impl Colours {
    pub fn of(header: &Header<'_>, meaning: Meaning) -> Result<Self, DecodeError> {
        let ids: Vec<u8> = header.components.iter().map(|component| component.id).collect();
        Ok(match (ids.len(), meaning) {
            (1, _) => Colours::Grey,
            (3, Meaning::Rgb) => Colours::Rgb,
            (3, Meaning::YCbCr) => Colours::YCbCr,
            (4, Meaning::Inks) => Colours::Inks,
            (3, Meaning::Declared) if header.has_jfif => Colours::YCbCr,
            (3, Meaning::Declared) => match header.adobe_transform {
                Some(0) => Colours::Rgb,
                None if ids == *b"RGB" => Colours::Rgb,
                _ => Colours::YCbCr,
            },
            (4, Meaning::Declared) => match header.adobe_transform {
                None | Some(0) => Colours::Cmyk,
                Some(_) => Colours::Ycck,
            },
            (n, _) => return Err(super::unsupported(format!("{n} components"))),
        })
    }

    /// Converts a row of each component to pixels.
    pub fn convert(self, rows: &[Vec<u8>], pixels: &mut [u8]) {
        let pixels = pixels.as_chunks_mut::<3>().0.iter_mut();
        match (self, rows) {
            (Colours::Grey, [grey]) => {
                for (pixel, &grey) in pixels.zip(grey) {
                    *pixel = [grey; 3];
                }
            }
            (Colours::Rgb | Colours::YCbCr, [a, b, c]) => {
                for (pixel, ((&a, &b), &c)) in pixels.zip(a.iter().zip(b).zip(c)) {
                    *pixel = if self == Colours::Rgb { [a, b, c] } else { rgb([a, b, c]) };
                }
            }
            (Colours::Cmyk | Colours::Ycck, [a, b, c, paper]) => {
                let inks = a.iter().zip(b).zip(c).zip(paper);
                for (pixel, (((&a, &b), &c), &paper)) in pixels.zip(inks) {
                    let stored = if self == Colours::Cmyk { [a, b, c] } else { rgb([a, b, c]) };
                    *pixel = over_black_ink(stored.map(|value| 255 - value), 255 - paper);
                }
            }
            (Colours::Inks, [a, b, c, black]) => {
                let inks = a.iter().zip(b).zip(c).zip(black);
                for (pixel, (((&a, &b), &c), &black)) in pixels.zip(inks) {
                    *pixel = over_black_ink([a, b, c], black);
                }
            }
            // `of` looks at the number of components.
            _ => {}
        }
    }
}

/// ITU-R BT.601 at full range, in 16 bits of fixed point.
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let [y, cb, cr] = [i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128];
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
