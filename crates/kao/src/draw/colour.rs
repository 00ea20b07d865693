//! Colours, chosen in OKLCH (Ottosson 2020), where steps of lightness, chroma and hue look even,
//! and stored as sRGB.

use super::geometry::{lerp, power, sin_cos};

/// An sRGB colour with opacity, each component in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour {
    pub r: f32,
    pub g: f32,
    pub b: f32,
    pub a: f32,
}

impl Colour {
    pub const WHITE: Colour = Colour { r: 1.0, g: 1.0, b: 1.0, a: 1.0 };

    /// The same colour with opacity `a`.
    pub fn alpha(self, a: f32) -> Self {
        Colour { a, ..self }
    }

    /// `self` at t = 0, `other` at t = 1.
    pub fn mix(self, other: Colour, t: f32) -> Self {
        Colour {
            r: lerp(self.r, other.r, t),
            g: lerp(self.g, other.g, t),
            b: lerp(self.b, other.b, t),
            a: lerp(self.a, other.a, t),
        }
    }
}

/// A colour as lightness (0 black, 1 white), chroma (0 grey, 0.3 vivid) and hue in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lch {
    pub l: f32,
    pub c: f32,
    pub h: f32,
}

/// A colour in OKLCH; hue in degrees.
pub(super) const fn lch(l: f32, c: f32, h: f32) -> Lch {
    Lch { l, c, h }
}

impl Lch {
    /// Adds to lightness, multiplies chroma, adds to hue.
    pub fn change(self, dl: f32, chroma_factor: f32, dh: f32) -> Self {
        lch((self.l + dl).clamp(0.0, 1.0), self.c * chroma_factor, self.h + dh)
    }

    /// Turns the hue toward `hue` by at most `degrees`, the short way round.
    pub fn toward_hue(self, hue: f32, degrees: f32) -> Self {
        let difference = (hue - self.h + 540.0).rem_euclid(360.0) - 180.0;
        lch(self.l, self.c, self.h + difference.clamp(-degrees, degrees))
    }

    /// How different two colours look: 0 for the same, 1 from black to white.
    pub fn distance(self, other: Lch) -> f32 {
        let plane = |colour: Lch| {
            let (sin, cos) = sin_cos(colour.h.to_radians());
            (colour.c * cos, colour.c * sin)
        };
        let ((a, b), (other_a, other_b)) = (plane(self), plane(other));
        let squares = [self.l - other.l, a - other_a, b - other_b].map(|d| d * d);
        squares.iter().sum::<f32>().sqrt()
    }

    /// As sRGB; a colour out of gamut loses chroma until it fits.
    pub fn rgb(self) -> Colour {
        const HALVINGS: usize = 8;
        let fits = |linear: [f32; 3]| linear.iter().all(|x| (-1e-4..=1.0001).contains(x));
        let mut linear = self.linear();
        if !fits(linear) {
            let (mut low, mut high) = (0.0, self.c);
            for _ in 0..HALVINGS {
                let middle = 0.5 * (low + high);
                if fits((Lch { c: middle, ..self }).linear()) {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            linear = Lch { c: low, ..self }.linear();
        }
        let [r, g, b] = linear.map(|x| encode(x.clamp(0.0, 1.0)));
        Colour { r, g, b, a: 1.0 }
    }

    /// Linear sRGB, possibly out of gamut. Matrices of Ottosson, "A perceptual color space for
    /// image processing" (2020).
    fn linear(self) -> [f32; 3] {
        let (sin, cos) = sin_cos(self.h.to_radians());
        let (a, b) = (self.c * cos, self.c * sin);
        let cube = |x: f32| x * x * x;
        let l = cube(self.l + 0.396_337_78 * a + 0.215_803_76 * b);
        let m = cube(self.l - 0.105_561_346 * a - 0.063_854_17 * b);
        let s = cube(self.l - 0.089_484_18 * a - 1.291_485_5 * b);
        [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ]
    }
}

/// The sRGB transfer curve (IEC 61966-2-1).
fn encode(linear: f32) -> f32 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * power(linear, 1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours_come_out() {
        // Values of the CSS Color 4 specification's sample conversions.
        let red = lch(0.627_96, 0.257_68, 29.234).rgb();
        assert!((red.r - 1.0).abs() < 0.01 && red.g < 0.05 && red.b < 0.05, "{red:?}");
        let grey = lch(0.599_87, 0.0, 0.0).rgb();
        assert!((grey.r - 0.502).abs() < 0.003, "{grey:?}");
    }

    #[test]
    fn vivid_colours_stay_in_gamut() {
        for step in 0..72 {
            let colour = lch(0.7, 0.4, step as f32 * 5.0).rgb();
            for x in [colour.r, colour.g, colour.b] {
                assert!((0.0..=1.0).contains(&x), "{colour:?}");
            }
        }
    }
}
