//! Brows.

use super::canvas::Canvas;
use super::expression::Expression;
use super::eyes::EyeForm;
use super::geometry::{Shape, brush, lerp, v};
use super::head::Head;
use super::palette::Palette;
use super::random::Stream;

/// The form of the brows.
#[derive(Clone, Debug)]
pub(super) struct BrowForm {
    /// Gap above the eye.
    pub gap: f32,
    pub half_length: f32,
    pub thickness: f32,
    /// Height of the bow.
    pub arch: f32,
    /// Short and round, as nobles wore them.
    pub dot: bool,
}

impl BrowForm {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        BrowForm {
            gap: stream.range(0.13, 0.24) - 0.06 * masculine,
            half_length: stream.range(0.2, 0.29),
            thickness: stream.range(0.016, 0.03) + 0.014 * masculine,
            arch: stream.range(0.02, 0.08),
            dot: stream.chance(0.015),
        }
    }
}

/// Outlines of both brows.
pub(super) fn shapes(
    head: &Head,
    form: &BrowForm,
    eyes: &EyeForm,
    expression: &Expression,
) -> Shape {
    let mut both = Shape::new();
    for side in [-1.0f32, 1.0] {
        let y = eyes.y - eyes.half_height - form.gap - expression.brow_lift;
        let brow = if form.dot {
            Shape::ellipse(v(side * (eyes.spread - 0.08), y), 0.1, 0.055)
        } else {
            let slant = expression.brow_slant - 0.3 * eyes.slant * eyes.half_height;
            let point = |t: f32| {
                let x = eyes.spread - 0.03 + form.half_length * lerp(-1.0, 1.0, t);
                // The inner end rises with worry, the outer one falls.
                let tilt = slant * lerp(-1.0, 0.7, t);
                let bow = -form.arch * (1.0 - (2.0 * t - 1.15) * (2.0 * t - 1.15));
                v(side * x, y + tilt + bow)
            };
            brush(
                &[point(0.0), point(0.25), point(0.5), point(0.75), point(1.0)],
                form.thickness,
                0.28,
            )
        };
        both = both.join(brow.map(|p| head.face(p)));
    }
    both
}

/// Draws the brows with the given opacity.
pub(super) fn paint(canvas: &mut Canvas, shapes: &Shape, palette: &Palette, opacity: f32) {
    canvas.fill(shapes, palette.brow.alpha(opacity));
}
