//! What is worn on the head: ribbons, pins, bands, glasses, animal ears, hats.

use super::canvas::{Canvas, Ink};
use super::colour::Colour;
use super::eyes::EyeForm;
use super::geometry::{Shape, Vec2, brush, sin_cos, v};
use super::hair::HairPainter;
use super::head::{Head, LINE};
use super::palette::{Cloth, Palette};
use super::random::Stream;

/// Things pinned to the hair, drawn over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pin {
    Bars,
    Flower,
    Star,
    Bow,
    Cross,
}

/// Things worn across the head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Band {
    Plain,
    Frilled,
    BigBow,
}

/// Animal ears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ears {
    Cat,
    Fox,
    Rabbit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hat {
    Beret,
    Brimmed,
}

/// Frames of glasses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Glasses {
    Round,
    Square,
    /// Rimmed below only.
    Under,
}

/// What one head wears.
#[derive(Clone, Debug)]
pub(super) struct Accessories {
    pub pin: Option<Pin>,
    pub band: Option<Band>,
    pub ears: Option<Ears>,
    pub hat: Option<Hat>,
    pub glasses: Option<Glasses>,
    pub earrings: bool,
    pub side: f32,
}

impl Accessories {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        let feminine = 1.0 - masculine;
        let mut it = Accessories {
            pin: None,
            band: None,
            ears: None,
            hat: None,
            glasses: None,
            earrings: stream.chance(0.06),
            side: stream.sign(),
        };
        // On top of the head there is room for one thing.
        let top = stream.unit();
        if top < 0.045 {
            it.ears =
                Some(stream.weighted(&[(Ears::Cat, 4.0), (Ears::Fox, 2.0), (Ears::Rabbit, 1.0)]));
        } else if top < 0.06 {
            it.hat = Some(stream.weighted(&[(Hat::Beret, 1.0), (Hat::Brimmed, 1.0)]));
        } else if top < 0.06 + 0.1 * feminine {
            it.band = Some(stream.weighted(&[
                (Band::Plain, 3.0),
                (Band::Frilled, 1.0),
                (Band::BigBow, 2.0),
            ]));
        }
        if stream.chance(0.16 * feminine + 0.02) {
            it.pin = Some(stream.weighted(&[
                (Pin::Bars, 3.0),
                (Pin::Flower, 2.0),
                (Pin::Star, 1.0),
                (Pin::Bow, 2.0),
                (Pin::Cross, 1.5),
            ]));
        }
        if stream.chance(0.05) {
            it.glasses = Some(stream.weighted(&[
                (Glasses::Round, 1.0),
                (Glasses::Square, 1.5),
                (Glasses::Under, 1.0),
            ]));
        }
        it
    }

    /// Whether something stands up from the crown.
    pub fn is_tall(&self) -> bool {
        self.ears.is_some() || self.hat.is_some()
    }

    /// What stands behind the hair of the crown.
    pub fn paint_behind(&self, canvas: &mut Canvas, head: &Head, palette: &Palette) {
        if self.band == Some(Band::BigBow) {
            let centre = head.hair(v(0.62 * self.side, -1.42));
            bow(canvas, centre, 0.62, 0.35 * self.side, &palette.accent);
        }
    }

    /// Ears on top of the hair.
    pub fn paint_ears(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        palette: &Palette,
    ) {
        let Some(ears) = self.ears else { return };
        for side in [-1.0f32, 1.0] {
            let (tip, half, height) = match ears {
                Ears::Cat => (v(1.0, -1.88), 0.34, 0.0),
                Ears::Fox => (v(0.98, -2.02), 0.37, 0.0),
                Ears::Rabbit => (v(0.62, -2.7), 0.26, 0.2),
            };
            let root = v(0.72, -1.22 - height);
            let at = |p: Vec2| head.behind(head.hair(v(side * p.x, p.y)));
            let ear = |scale: f32, sink: f32| {
                let tip = root.lerp(tip, scale);
                Shape::new()
                    .move_to(root + v(-half * scale, -0.1 + sink))
                    .bend_to(root.lerp(tip, 0.6) + v(-half * 0.55 * scale, 0.0), tip)
                    .bend_to(
                        root.lerp(tip, 0.6) + v(half * 0.8 * scale, 0.1),
                        root + v(half * scale, 0.22 + sink),
                    )
                    .bend_to(root + v(0.0, 0.1 + sink), root + v(-half * scale, -0.1 + sink))
                    .close()
                    .map(at)
            };
            let ink = painter.ink;
            let outer = ear(1.0, 0.0);
            canvas.fill(
                &outer,
                Ink::Linear(at(tip), at(root), vec![(0.0, ink.shade), (1.0, ink.base)]),
            );
            canvas.stroke(&outer, ink.line, LINE);
            let inner = ear(0.62, 0.05);
            canvas.fill(&inner, palette.skin.blush.mix(palette.skin.base, 0.45));
        }
    }

    /// What lies on the hair: bands, pins, hats, earrings.
    pub fn paint_over(&self, canvas: &mut Canvas, head: &Head, palette: &Palette, crown: f32) {
        if let Some(band) = self.band {
            paint_band(canvas, head, band, palette, crown);
        }
        if let Some(pin) = self.pin {
            paint_pin(canvas, head, pin, self.side, palette);
        }
        if let Some(hat) = self.hat {
            paint_hat(canvas, head, hat, self.side, palette, crown);
        }
    }

    pub fn paint_earrings(&self, canvas: &mut Canvas, head: &Head, palette: &Palette) {
        if !self.earrings {
            return;
        }
        for side in [-1.0f32, 1.0] {
            if head.turn * side < 0.4 {
                let drop = Shape::ellipse(v(side * 1.03, 0.56), 0.055, 0.08);
                canvas.fill(&drop, palette.accent.base);
                canvas.stroke(&drop, palette.accent.line, LINE * 0.8);
                let spark = Shape::ellipse(v(side * 1.03 - 0.015, 0.53), 0.018, 0.022);
                canvas.fill(&spark, Colour::WHITE);
            }
        }
    }

    pub fn paint_glasses(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        eyes: &EyeForm,
        palette: &Palette,
    ) {
        let Some(glasses) = self.glasses else { return };
        let frame = palette.accent.line.mix(palette.lash, 0.4);
        let width = 0.042;
        let y = eyes.y + 0.07;
        for side in [-1.0f32, 1.0] {
            let x = side * (eyes.spread + 0.01);
            let (w, h) = (0.37, (eyes.half_height + 0.02).clamp(0.22, 0.33));
            let lens = match glasses {
                Glasses::Round => Shape::ellipse(v(x, y), w * 0.97, h * 1.1),
                Glasses::Square | Glasses::Under => rounded(v(x, y), w, h),
            }
            .map(|p| head.face(p));
            canvas.fill(&lens, Colour::WHITE.alpha(0.13));
            if glasses == Glasses::Under {
                let rim = Shape::smooth_open(&[
                    v(x - w, y - 0.05),
                    v(x - w * 0.86, y + h * 0.72),
                    v(x, y + h),
                    v(x + w * 0.86, y + h * 0.72),
                    v(x + w, y - 0.05),
                ]);
                canvas.stroke(&rim.map(|p| head.face(p)), frame, width);
            } else {
                canvas.stroke(&lens, frame, width);
            }
            let glare = Shape::polygon(&[
                v(x - 0.16, y - h * 0.75),
                v(x - 0.04, y - h * 0.8),
                v(x - 0.2, y + h * 0.45),
                v(x - 0.28, y + h * 0.3),
            ]);
            canvas.fill(&glare.map(|p| head.face(p)), Colour::WHITE.alpha(0.22));
            let arm = Shape::smooth_open(&[
                v(side * (eyes.spread + 0.37), y - 0.05),
                v(side * 1.0, y - 0.04),
            ]);
            canvas.stroke(&arm.map(|p| head.face(p)), frame, width);
        }
        let bridge = Shape::smooth_open(&[
            v(-eyes.spread + 0.36, y - 0.02),
            v(0.0, y - 0.07),
            v(eyes.spread - 0.36, y - 0.02),
        ]);
        canvas.stroke(&bridge.map(|p| head.face(p)), frame, width);
    }
}

fn rounded(centre: Vec2, w: f32, h: f32) -> Shape {
    let at = |x: f32, y: f32| centre + v(x * w, y * h);
    Shape::smooth_closed(&[
        at(-0.85, -0.85),
        at(0.0, -0.95),
        at(0.85, -0.85),
        at(1.0, 0.0),
        at(0.8, 0.8),
        at(0.0, 1.0),
        at(-0.8, 0.8),
        at(-1.0, 0.0),
    ])
}

/// A band around tied hair.
pub(super) fn tie_band(canvas: &mut Canvas, centre: Vec2, angle: f32, cloth: &Cloth) {
    let (sin, cos) = sin_cos(angle);
    let band = Shape::ellipse(v(0.0, 0.0), 0.09, 0.14)
        .map(|p| centre + v(p.x * cos - p.y * sin, p.x * sin + p.y * cos));
    canvas.fill(&band, cloth.base);
    canvas.stroke(&band, cloth.line, LINE);
}

/// A bow of two loops and two ends, `size` across, turned by `angle`.
pub(super) fn bow(canvas: &mut Canvas, centre: Vec2, size: f32, angle: f32, cloth: &Cloth) {
    let (sin, cos) = sin_cos(angle);
    let at = |p: Vec2| centre + v(p.x * cos - p.y * sin, p.x * sin + p.y * cos) * size;
    for side in [-1.0, 1.0] {
        let end = Shape::polygon(&[
            v(side * 0.05, 0.0),
            v(side * 0.3, 0.25),
            v(side * 0.62, 0.85),
            v(side * 0.4, 0.78),
            v(side * 0.26, 0.95),
            v(side * 0.06, 0.3),
        ])
        .map(at);
        canvas.fill(&end, cloth.shade);
        canvas.stroke(&end, cloth.line, LINE);
    }
    for side in [-1.0, 1.0] {
        let wing = Shape::new()
            .move_to(v(0.0, -0.08))
            .bend_to(v(side * 0.5, -0.75), v(side * 0.95, -0.5))
            .bend_to(v(side * 1.08, 0.05), v(side * 0.9, 0.42))
            .bend_to(v(side * 0.45, 0.45), v(0.0, 0.1))
            .close()
            .map(at);
        canvas.fill(&wing, cloth.base);
        let fold =
            brush(&[v(side * 0.12, 0.0), v(side * 0.4, 0.02), v(side * 0.72, 0.16)], 0.1, 0.4)
                .map(at);
        canvas.fill(&fold, cloth.shade);
        canvas.stroke(&wing, cloth.line, LINE);
    }
    let knot = Shape::ellipse(v(0.0, 0.0), 0.17, 0.2).map(at);
    canvas.fill(&knot, cloth.light);
    canvas.stroke(&knot, cloth.line, LINE);
}

fn paint_pin(canvas: &mut Canvas, head: &Head, pin: Pin, side: f32, palette: &Palette) {
    let cloth = &palette.accent;
    let at = |p: Vec2| head.hair(v(side * (0.84 + p.x), -0.66 + p.y));
    match pin {
        Pin::Bars => {
            for k in 0..2 {
                let y = 0.14 * k as f32;
                let bar = Shape::polygon(&[
                    v(-0.17, y - 0.05),
                    v(0.13, y - 0.13),
                    v(0.14, y - 0.07),
                    v(-0.16, y + 0.02),
                ]);
                let bar = bar.map(at);
                canvas.fill(&bar, cloth.light);
                canvas.stroke(&bar, cloth.line, LINE * 0.8);
            }
        }
        Pin::Cross => {
            for flip in [-1.0, 1.0] {
                let bar = Shape::polygon(&[
                    v(-0.14, flip * -0.13),
                    v(-0.09, flip * -0.16),
                    v(0.14, flip * 0.1),
                    v(0.09, flip * 0.13),
                ]);
                let bar = bar.map(at);
                canvas.fill(&bar, cloth.light);
                canvas.stroke(&bar, cloth.line, LINE * 0.8);
            }
        }
        Pin::Flower => {
            const PETALS: usize = 5;
            let centre = at(v(0.0, 0.0));
            for k in 0..PETALS {
                let (sin, cos) = sin_cos(std::f32::consts::TAU * k as f32 / PETALS as f32 + 0.3);
                let petal = Shape::ellipse(centre + v(cos, sin) * 0.15, 0.13, 0.13);
                canvas.fill(&petal, cloth.light.mix(Colour::WHITE, 0.35));
                canvas.stroke(&petal, cloth.line.alpha(0.7), LINE * 0.7);
            }
            canvas.fill(&Shape::ellipse(centre, 0.08, 0.08), palette.irises[0].bottom);
        }
        Pin::Star => {
            let centre = at(v(0.0, 0.0));
            let points: Vec<Vec2> = (0..10)
                .map(|k| {
                    let (sin, cos) = sin_cos(std::f32::consts::TAU * k as f32 / 10.0 - 1.4);
                    centre + v(cos, sin) * if k % 2 == 0 { 0.23 } else { 0.11 }
                })
                .collect();
            let star = Shape::polygon(&points);
            canvas.fill(&star, cloth.light);
            canvas.stroke(&star, cloth.line, LINE * 0.8);
        }
        Pin::Bow => bow(canvas, at(v(0.04, -0.1)), 0.32, 0.4 * side, cloth),
    }
}

fn paint_band(canvas: &mut Canvas, head: &Head, band: Band, palette: &Palette, crown: f32) {
    let cloth = if band == Band::Frilled { &palette.trim } else { &palette.accent };
    if band == Band::BigBow {
        return;
    }
    let ring = |top: f32, wide: f32| -> Vec<Vec2> {
        [
            v(-0.99 * wide, -0.9),
            v(-0.9 * wide, -1.08),
            v(-0.5 * wide, top + 0.1),
            v(0.0, top),
            v(0.5 * wide, top + 0.1),
            v(0.9 * wide, -1.08),
            v(0.99 * wide, -0.9),
        ]
        .to_vec()
    };
    let mut outer = ring(crown + 0.12, 1.1);
    let inner = ring(crown + 0.27, 1.08);
    if band == Band::Frilled {
        for k in 0..9 {
            let t = (k as f32 + 0.5) / 9.0;
            let x = -1.05 + 2.1 * t;
            let y = crown + 0.08 + 0.42 * x * x;
            let frill = Shape::ellipse(head.hair(v(x, y)), 0.17, 0.15);
            canvas.fill(&frill, cloth.base);
            canvas.stroke(&frill, cloth.shade, LINE);
        }
    }
    outer.extend(inner.iter().rev());
    let shape = Shape::new()
        .move_to(outer[0])
        .through(&outer[1..7])
        .line_to(outer[7])
        .through(&outer[8..])
        .close();
    let shape = shape.map(|p| head.hair(p));
    canvas.fill(&shape, palette.accent.base);
    canvas.stroke(&shape, palette.accent.line, LINE);
}

fn paint_hat(canvas: &mut Canvas, head: &Head, hat: Hat, side: f32, palette: &Palette, crown: f32) {
    let cloth = &palette.accent;
    let bend = |p: Vec2| head.hair(p);
    match hat {
        Hat::Beret => {
            let shape = Shape::smooth_closed(&[
                v(-1.12, -1.02),
                v(-1.3, -1.35),
                v(-0.8 + 0.1 * side, crown - 0.3),
                v(0.3 * side, crown - 0.42),
                v(0.8 + 0.1 * side, crown - 0.3),
                v(1.3, -1.35),
                v(1.12, -1.02),
                v(0.6, -1.2),
                v(0.0, -1.26),
                v(-0.6, -1.2),
            ])
            .map(bend);
            canvas.fill(&shape, cloth.base);
            canvas.clip(&shape);
            let shade = Shape::ellipse(bend(v(-0.9 * head.light, -1.0)), 1.0, 0.55);
            canvas.fill(&shade, cloth.shade);
            canvas.unclip();
            canvas.stroke(&shape, cloth.line, LINE);
        }
        Hat::Brimmed => {
            let dome = Shape::smooth_closed(&[
                v(-1.08, -1.05),
                v(-1.0, crown - 0.1),
                v(-0.4, crown - 0.5),
                v(0.4, crown - 0.5),
                v(1.0, crown - 0.1),
                v(1.08, -1.05),
            ])
            .map(bend);
            canvas.fill(&dome, cloth.base);
            canvas.stroke(&dome, cloth.line, LINE);
            let brim = Shape::smooth_closed(&[
                v(-1.75, -0.86),
                v(-1.0, -1.22),
                v(0.0, -1.3),
                v(1.0, -1.22),
                v(1.75, -0.86),
                v(0.95, -0.98),
                v(0.0, -1.04),
                v(-0.95, -0.98),
            ])
            .map(bend);
            canvas.fill(&brim, cloth.shade);
            canvas.stroke(&brim, cloth.line, LINE);
        }
    }
}
