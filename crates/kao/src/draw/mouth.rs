//! Mouths.

use super::canvas::Canvas;
use super::colour::{Colour, lch};
use super::expression::Mouth;
use super::geometry::{Shape, Vec2, brush, v};
use super::head::Head;
use super::palette::Skin;
use super::random::Stream;

/// The form of a mouth.
#[derive(Clone, Debug)]
pub(super) struct MouthForm {
    /// Width against the usual one.
    pub width: f32,
    /// Shows the lower lip by a touch of shadow.
    pub lip: f32,
    /// Coloured lips.
    pub lipstick: bool,
}

impl MouthForm {
    pub fn sample(stream: &mut Stream, maturity: f32, masculine: f32) -> Self {
        MouthForm {
            width: stream.range(0.7, 1.0) + 0.15 * maturity,
            lip: stream.unit(),
            lipstick: stream.chance(0.12 * maturity * (1.0 - masculine) + 0.02),
        }
    }
}

/// Half thickness of the line of a mouth.
const LIP_LINE: f32 = 0.0145;

/// Draws the mouth.
pub(super) fn paint(canvas: &mut Canvas, head: &Head, form: &MouthForm, mouth: Mouth, skin: &Skin) {
    let line = skin.line.mix(skin.lip, 0.25);
    let inside = lch(0.5, 0.13, 20.0).rgb().mix(skin.lip, 0.3);
    let painter = Painter { head, skin, width: form.width, line, inside };
    match mouth {
        Mouth::Smile => {
            let points =
                [v(-0.24, -0.045), v(-0.12, 0.015), v(0.0, 0.03), v(0.12, 0.015), v(0.24, -0.045)];
            canvas.fill(&painter.stroke(&points, 1.0), line);
        }
        Mouth::SmallSmile => {
            let points = [v(-0.13, -0.02), v(-0.05, 0.012), v(0.05, 0.012), v(0.13, -0.02)];
            canvas.fill(&painter.stroke(&points, 1.0), line);
        }
        Mouth::Flat => {
            let points = [v(-0.12, 0.0), v(0.0, -0.006), v(0.12, 0.0)];
            canvas.fill(&painter.stroke(&points, 0.95), line);
        }
        Mouth::Smirk => {
            let points = [v(-0.15, 0.02), v(-0.02, 0.02), v(0.12, -0.02), v(0.2, -0.07)];
            canvas.fill(&painter.stroke(&points, 1.05), line);
        }
        Mouth::Frown => {
            let points = [v(-0.16, 0.045), v(-0.06, -0.005), v(0.06, -0.005), v(0.16, 0.045)];
            canvas.fill(&painter.stroke(&points, 1.0), line);
        }
        Mouth::Pout => {
            let points = [v(-0.09, 0.03), v(-0.03, -0.02), v(0.03, -0.02), v(0.09, 0.03)];
            canvas.fill(&painter.stroke(&points, 1.1), line);
            let lower = [v(-0.05, 0.07), v(0.05, 0.07)];
            canvas.fill(&painter.stroke(&lower, 0.8), skin.deep);
        }
        Mouth::Wavy => {
            let points = [
                v(-0.16, 0.0),
                v(-0.1, -0.025),
                v(-0.03, 0.018),
                v(0.04, -0.018),
                v(0.1, 0.022),
                v(0.16, -0.01),
            ];
            canvas.fill(&painter.stroke(&points, 1.0), line);
        }
        Mouth::Cat => {
            for side in [-1.0, 1.0] {
                let points = [
                    v(side * 0.2, -0.05),
                    v(side * 0.14, 0.01),
                    v(side * 0.06, 0.02),
                    v(0.0, -0.035),
                ];
                canvas.fill(&painter.stroke(&points, 1.0), line);
            }
        }
        Mouth::OpenSmile => painter.open(canvas, &SMILE, true),
        Mouth::WideOpen => painter.open(canvas, &LAUGH, true),
        Mouth::Fang => {
            painter.open(canvas, &SMILE, false);
            let x = 0.09 * head.light;
            let fang = [v(x - 0.035, -0.015), v(x + 0.035, -0.02), v(x, 0.06)];
            canvas.fill(&painter.place(&Shape::polygon(&fang)), Colour::WHITE);
        }
        Mouth::Grin => painter.grin(canvas),
        Mouth::SmallOpen => {
            let shape = painter.place(&Shape::ellipse(v(0.0, 0.01), 0.065, 0.05));
            canvas.fill(&shape, inside);
            canvas.stroke(&shape, line, 0.026);
        }
        Mouth::Shout => painter.shout(canvas),
    }
    let closed = matches!(
        mouth,
        Mouth::Smile | Mouth::SmallSmile | Mouth::Flat | Mouth::Smirk | Mouth::Frown
    );
    if closed && form.lipstick {
        let lips = [
            v(-0.15, 0.0),
            v(-0.05, -0.035),
            v(0.0, -0.022),
            v(0.05, -0.035),
            v(0.15, 0.0),
            v(0.06, 0.075),
            v(-0.06, 0.075),
        ];
        canvas.fill(&painter.place(&Shape::smooth_closed(&lips)), skin.lip.alpha(0.6));
    } else if closed && form.lip > 0.45 {
        let lower = [v(-0.06, 0.085), v(0.0, 0.095), v(0.06, 0.085)];
        canvas.fill(&painter.stroke(&lower, 0.8), skin.deep.alpha(0.8));
    }
}

/// The extent of an open mouth.
struct Opening {
    half_width: f32,
    depth: f32,
    /// How far the upper lip sinks in its middle.
    sag: f32,
}

const SMILE: Opening = Opening { half_width: 0.2, depth: 0.17, sag: 0.02 };
const LAUGH: Opening = Opening { half_width: 0.25, depth: 0.25, sag: 0.03 };

struct Painter<'a> {
    head: &'a Head,
    skin: &'a Skin,
    width: f32,
    line: Colour,
    inside: Colour,
}

impl Painter<'_> {
    fn at(&self, p: Vec2) -> Vec2 {
        self.head.face(v(p.x * self.width + 0.05 * self.head.turn, self.head.mouth_y + p.y))
    }

    fn place(&self, shape: &Shape) -> Shape {
        shape.map(|p| self.at(p))
    }

    fn stroke(&self, points: &[Vec2], weight: f32) -> Shape {
        self.place(&brush(points, LIP_LINE * weight, 0.5))
    }

    /// An open, smiling mouth with tongue, and teeth if wanted.
    fn open(&self, canvas: &mut Canvas, opening: &Opening, teeth: bool) {
        let Opening { half_width, depth, sag } = *opening;
        let Painter { skin, line, inside, .. } = *self;
        let w = half_width;
        let top = -0.05;
        let mouth = Shape::new()
            .move_to(v(-w, top))
            .bend_to(v(0.0, top + 2.0 * sag + 0.02), v(w, top))
            .through(&[
                v(w * 0.78, top + depth * 0.62),
                v(0.0, top + depth * 1.1),
                v(-w * 0.78, top + depth * 0.62),
                v(-w, top),
            ])
            .close();
        let mouth = self.place(&mouth);
        canvas.fill(&mouth, inside);
        canvas.clip(&mouth);
        let tongue = Shape::ellipse(v(0.0, top + depth * 1.1), w * 0.7, depth * 0.5);
        canvas.fill(&self.place(&tongue), skin.lip.mix(skin.blush, 0.5).mix(Colour::WHITE, 0.12));
        if teeth {
            let teeth = Shape::new()
                .move_to(v(-w * 1.1, top - 0.1))
                .line_to(v(w * 1.1, top - 0.1))
                .line_to(v(w * 0.8, top + 0.03 + sag))
                .bend_to(v(0.0, top + 0.06 + 2.0 * sag), v(-w * 0.8, top + 0.03 + sag))
                .close();
            canvas.fill(&self.place(&teeth), Colour::WHITE);
        }
        canvas.unclip();
        canvas.stroke(&mouth, line, 0.019);
    }

    /// Two rows of teeth.
    fn grin(&self, canvas: &mut Canvas) {
        let line = self.line;
        let mouth = Shape::smooth_closed(&[
            v(-0.26, -0.07),
            v(-0.1, -0.03),
            v(0.1, -0.03),
            v(0.26, -0.07),
            v(0.2, 0.05),
            v(0.0, 0.1),
            v(-0.2, 0.05),
        ]);
        let mouth = self.place(&mouth);
        canvas.fill(&mouth, Colour::WHITE);
        canvas.stroke(&mouth, line, 0.028);
        let row = [v(-0.2, 0.0), v(-0.07, 0.032), v(0.07, 0.032), v(0.2, 0.0)];
        canvas.fill(&self.stroke(&row, 0.5), line.alpha(0.6));
    }

    fn shout(&self, canvas: &mut Canvas) {
        let Painter { skin, line, inside, .. } = *self;
        let mouth = Shape::smooth_closed(&[
            v(0.0, -0.07),
            v(0.11, -0.03),
            v(0.14, 0.09),
            v(0.0, 0.15),
            v(-0.14, 0.09),
            v(-0.11, -0.03),
        ]);
        let mouth = self.place(&mouth);
        canvas.fill(&mouth, inside);
        canvas.clip(&mouth);
        let tongue = Shape::ellipse(v(0.0, 0.15), 0.1, 0.07);
        canvas.fill(&self.place(&tongue), skin.lip.mix(skin.blush, 0.5));
        canvas.unclip();
        canvas.stroke(&mouth, line, 0.026);
    }
}
