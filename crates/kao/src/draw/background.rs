//! What lies behind the portrait, in frame coordinates from (0, 0) to (1, 1).

use std::f32::consts::TAU;

use super::canvas::{Canvas, FRAME, Ink};
use super::colour::{Colour, Lch, lch};
use super::geometry::{Shape, sin_cos, v};
use super::palette::Palette;
use super::random::Stream;

/// The kinds of background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    White,
    Flat,
    Gradient,
    Stripes,
    Dots,
    Bokeh,
    Rays,
    Window,
    Sky,
    Petals,
}

impl Kind {
    /// The first thing that is chosen about a background.
    pub fn sample(stream: &mut Stream) -> Self {
        stream.weighted(&[
            (Kind::White, 7.0),
            (Kind::Flat, 3.0),
            (Kind::Gradient, 5.0),
            (Kind::Stripes, 0.8),
            (Kind::Dots, 0.8),
            (Kind::Bokeh, 1.6),
            (Kind::Rays, 0.6),
            (Kind::Window, 0.8),
            (Kind::Sky, 1.2),
            (Kind::Petals, 0.8),
        ])
    }
}

/// Paints the whole frame.
pub(super) fn paint(canvas: &mut Canvas, palette: &Palette, light: f32, stream: &mut Stream) {
    canvas.look(FRAME);
    let kind = Kind::sample(stream);
    let hue = match stream.count(0, 3) {
        0 => palette.hair_hue.h + 180.0,
        1 => palette.accent_hue.h,
        2 => palette.hair_hue.h + stream.range(-40.0, 40.0),
        _ => stream.range(0.0, 360.0),
    };
    let l = stream.weighted(&[(0.94, 4.0), (0.86, 3.0), (0.7, 1.5), (0.45, 0.8), (0.28, 0.4)]);
    let base = lch((l + stream.range(-0.03, 0.03f32)).min(0.98), stream.range(0.01, 0.085), hue);
    let other = base.change(stream.range(0.03, 0.12), 0.7, stream.range(-50.0, 50.0));
    let whole = Shape::rectangle(v(0.0, 0.0), v(1.0, 1.0));
    match kind {
        Kind::White => {
            let white = lch(stream.range(0.965, 1.0), stream.range(0.0, 0.012), hue);
            canvas.fill(&whole, white.rgb());
        }
        Kind::Flat => canvas.fill(&whole, base.rgb()),
        Kind::Gradient => gradient(canvas, &whole, base, other, stream),
        Kind::Stripes => {
            canvas.fill(&whole, base.rgb());
            let angle = stream.weighted(&[(0.0, 1.0), (0.785, 1.0), (-0.785, 1.0), (1.571, 0.6)]);
            let pitch = stream.range(0.07, 0.2);
            let (sin, cos) = sin_cos(angle);
            let mut at = -1.5;
            while at < 2.5 {
                let stripe = Shape::rectangle(v(at, -2.0), v(at + 0.5 * pitch, 3.0))
                    .map(|p| v(p.x * cos - p.y * sin, p.x * sin + p.y * cos));
                canvas.fill(&stripe, other.rgb());
                at += pitch;
            }
        }
        Kind::Dots => {
            canvas.fill(&whole, base.rgb());
            let pitch = stream.range(0.1, 0.18);
            let radius = pitch * stream.range(0.18, 0.32);
            let (dx, dy) = (stream.unit() * pitch, stream.unit() * pitch);
            for row in -1..12 {
                for column in -1..12 {
                    let x = dx + pitch * (column as f32 + if row % 2 == 0 { 0.0 } else { 0.5 });
                    let y = dy + pitch * row as f32 * 0.87;
                    canvas.fill(&Shape::ellipse(v(x, y), radius, radius), other.rgb());
                }
            }
        }
        Kind::Bokeh => {
            gradient(canvas, &whole, base, other, stream);
            for _ in 0..stream.count(8, 18) {
                let centre = v(stream.unit(), stream.unit());
                let radius = stream.range(0.02, 0.13);
                let tint = other.change(0.12, 1.2, stream.range(-50.0, 50.0)).rgb();
                let disc = Shape::ellipse(centre, radius, radius);
                canvas.fill(&disc, tint.mix(Colour::WHITE, 0.4).alpha(stream.range(0.15, 0.5)));
            }
        }
        Kind::Rays => {
            canvas.fill(&whole, base.rgb());
            let n = stream.count(9, 16);
            let centre = v(0.5, stream.range(0.4, 0.7));
            for k in 0..n {
                let turn = TAU / n as f32;
                let (s0, c0) = sin_cos(turn * k as f32);
                let (s1, c1) = sin_cos(turn * (k as f32 + 0.5));
                let ray =
                    Shape::polygon(&[centre, centre + v(c0, s0) * 2.0, centre + v(c1, s1) * 2.0]);
                canvas.fill(&ray, other.rgb());
            }
        }
        Kind::Window => window(canvas, &whole, light, stream),
        Kind::Sky => {
            let top = lch(stream.range(0.62, 0.78), 0.11, stream.range(228.0, 258.0));
            let bottom = lch(0.94, 0.03, 230.0);
            canvas.fill(
                &whole,
                Ink::Linear(v(0.0, 0.0), v(0.0, 1.0), vec![(0.0, top.rgb()), (1.0, bottom.rgb())]),
            );
            for _ in 0..stream.count(1, 4) {
                let centre = v(stream.unit(), stream.range(0.1, 0.9));
                for _ in 0..5 {
                    let puff = centre + v(stream.range(-0.16, 0.16), stream.range(-0.03, 0.03));
                    let radius = stream.range(0.04, 0.09);
                    canvas.fill(
                        &Shape::ellipse(puff, radius * 1.4, radius),
                        Colour::WHITE.alpha(0.85),
                    );
                }
            }
        }
        Kind::Petals => {
            gradient(canvas, &whole, base, other, stream);
            for _ in 0..stream.count(8, 20) {
                let centre = v(stream.unit(), stream.unit());
                let (sin, cos) = sin_cos(stream.range(0.0, TAU));
                let size = stream.range(0.02, 0.05);
                let petal = Shape::ellipse(v(0.0, 0.0), size, size * 0.55)
                    .map(|p| centre + v(p.x * cos - p.y * sin, p.x * sin + p.y * cos));
                canvas.fill(&petal, lch(0.88, 0.07, 5.0).rgb().alpha(0.85));
            }
        }
    }
}

fn gradient(canvas: &mut Canvas, whole: &Shape, base: Lch, other: Lch, stream: &mut Stream) {
    let ink = if stream.chance(0.3) {
        let centre = v(stream.range(0.2, 0.8), stream.range(0.1, 0.6));
        Ink::Radial(centre, 0.9, vec![(0.0, other.rgb()), (1.0, base.rgb())])
    } else {
        let (sin, cos) = sin_cos(stream.range(0.0, TAU));
        let reach = v(cos, sin) * 0.6;
        let centre = v(0.5, 0.5);
        Ink::Linear(centre - reach, centre + reach, vec![(0.0, base.rgb()), (1.0, other.rgb())])
    };
    canvas.fill(whole, ink);
}

/// A wall with a bright window on the side of the light.
fn window(canvas: &mut Canvas, whole: &Shape, light: f32, stream: &mut Stream) {
    let hue = stream.range(40.0, 90.0);
    let wall = lch(stream.range(0.72, 0.88), 0.03, hue);
    canvas.fill(whole, wall.rgb());
    let centre = 0.5 + 0.34 * light + stream.range(-0.05, 0.05);
    let half = stream.range(0.2, 0.3);
    let top = stream.range(0.0, 0.12);
    let bottom = stream.range(0.7, 0.95);
    let frame = 0.025;
    let pane = Shape::rectangle(v(centre - half, top), v(centre + half, bottom));
    canvas.fill(
        &pane,
        Ink::Linear(
            v(0.0, top),
            v(0.0, bottom),
            vec![(0.0, lch(0.84, 0.07, 235.0).rgb()), (1.0, lch(0.97, 0.02, 220.0).rgb())],
        ),
    );
    let wood = wall.change(-0.2, 1.3, -10.0).rgb();
    canvas.stroke(&pane, wood, frame);
    for bar in [
        Shape::new().move_to(v(centre, top)).line_to(v(centre, bottom)),
        Shape::new()
            .move_to(v(centre - half, 0.45 * (top + bottom)))
            .line_to(v(centre + half, 0.45 * (top + bottom))),
    ] {
        canvas.stroke(&bar, wood, frame * 0.7);
    }
}
