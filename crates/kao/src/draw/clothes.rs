//! Collars and shoulders. They follow the neck, not the tilt of the head.

use super::accessories::bow;
use super::canvas::Canvas;
use super::geometry::{Shape, Vec2, v};
use super::head::{Head, LINE};
use super::palette::{Cloth, Palette};
use super::random::Stream;

/// What is worn on neck and shoulders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outfit {
    Sailor,
    Shirt,
    Blazer,
    Turtleneck,
    RoundNeck,
    Kimono,
    Hood,
    Frilled,
    Bare,
}

/// What is chosen about the clothes.
#[derive(Clone, Debug)]
pub(super) struct Clothes {
    pub outfit: Outfit,
    /// Half width of the shoulders.
    pub shoulders: f32,
    pub bow: bool,
    pub choker: bool,
}

impl Clothes {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        use Outfit::*;
        let outfit = stream.weighted(&[
            (Sailor, 2.0 * (1.0 - masculine)),
            (Shirt, 2.5),
            (Blazer, 2.0),
            (Turtleneck, 1.0),
            (RoundNeck, 2.0),
            (Kimono, 1.0),
            (Hood, 1.0),
            (Frilled, 1.5 * (1.0 - masculine)),
            (Bare, 0.6 * (1.0 - masculine)),
        ]);
        Clothes {
            outfit,
            shoulders: stream.range(1.35, 1.6) + 0.25 * masculine,
            bow: stream.chance(0.5),
            choker: stream.chance(0.07) && !matches!(outfit, Turtleneck | Shirt | Blazer),
        }
    }

    /// Draws the clothes over the neck.
    pub fn paint(&self, canvas: &mut Canvas, head: &Head, palette: &Palette) {
        let x = 0.1 * head.turn;
        let base = head.chin + 0.4;
        let at = |p: Vec2| v(x + p.x, base + p.y);
        let s = self.shoulders;
        // Shoulders with a neckline of the given half width and depth.
        let torso = |half: f32, rise: f32, depth: f32| {
            Shape::new()
                .move_to(v(-half, rise))
                .bend_to(v(-s * 0.7, 0.12), v(-s, 0.42))
                .line_to(v(-s - 0.2, 3.0))
                .line_to(v(s + 0.2, 3.0))
                .line_to(v(s, 0.42))
                .bend_to(v(s * 0.7, 0.12), v(half, rise))
                .bend_to(v(half * 0.6, rise + depth), v(0.0, rise + depth))
                .bend_to(v(-half * 0.6, rise + depth), v(-half, rise))
                .close()
                .map(at)
        };
        let cloth = &palette.cloth;
        let trim = &palette.trim;
        let mut fill = |shape: &Shape, inks: &Cloth| {
            canvas.fill(shape, inks.base);
            canvas.stroke(shape, inks.line, LINE);
        };
        match self.outfit {
            Outfit::RoundNeck => fill(&torso(0.62, 0.02, 0.22), cloth),
            Outfit::Bare => fill(&torso(1.05, 0.34, 0.35), cloth),
            Outfit::Turtleneck => {
                fill(&torso(0.5, -0.02, 0.05), cloth);
                let roll = Shape::smooth_closed(&[
                    v(-0.46, -0.22),
                    v(0.0, -0.12),
                    v(0.46, -0.22),
                    v(0.52, 0.05),
                    v(0.0, 0.18),
                    v(-0.52, 0.05),
                ]);
                fill(&roll.map(at), cloth);
            }
            Outfit::Hood => {
                fill(&torso(0.6, 0.0, 0.2), cloth);
                for side in [-1.0, 1.0] {
                    let fold = Shape::smooth_closed(&[
                        v(side * 0.34, 0.02),
                        v(side * 0.7, -0.2),
                        v(side * 1.1, 0.0),
                        v(side * 0.95, 0.34),
                        v(side * 0.3, 0.46),
                        v(side * 0.08, 0.42),
                    ]);
                    fill(&fold.map(at), cloth);
                }
            }
            Outfit::Kimono => {
                fill(&torso(0.55, 0.0, 0.6), cloth);
                for side in [1.0, -1.0] {
                    let band = Shape::polygon(&[
                        v(side * 0.4, -0.12),
                        v(side * 0.62, -0.05),
                        v(side * -0.05, 0.9),
                        v(side * -0.35, 0.9),
                    ]);
                    fill(&band.map(at), trim);
                }
            }
            Outfit::Sailor => {
                fill(&torso(0.6, 0.02, 0.5), trim);
                for side in [-1.0, 1.0] {
                    let flap = Shape::polygon(&[
                        v(side * 0.38, -0.14),
                        v(side * 0.62, -0.08),
                        v(side * 1.15, 0.3),
                        v(side * 1.0, 0.7),
                        v(side * 0.02, 0.72),
                    ]);
                    fill(&flap.map(at), cloth);
                    fill(&sailor_stripe(side).map(at), trim);
                }
            }
            Outfit::Shirt | Outfit::Blazer => {
                if self.outfit == Outfit::Blazer {
                    fill(&torso(0.5, 0.0, 0.9), trim);
                    for side in [-1.0, 1.0] {
                        let lapel = Shape::polygon(&[
                            v(side * 0.5, -0.02),
                            v(side * 0.9, 0.1),
                            v(side * 1.9, 0.5),
                            v(side * 1.9, 2.0),
                            v(side * 0.05, 1.4),
                            v(side * 0.2, 0.7),
                        ]);
                        fill(&lapel.map(at), cloth);
                    }
                } else {
                    fill(&torso(0.5, 0.0, 0.3), cloth);
                }
                for side in [-1.0, 1.0] {
                    let wing = Shape::polygon(&[
                        v(side * 0.38, -0.2),
                        v(side * 0.56, -0.06),
                        v(side * 0.42, 0.36),
                        v(side * 0.02, 0.16),
                    ]);
                    fill(&wing.map(at), trim);
                }
            }
            Outfit::Frilled => {
                fill(&torso(0.56, 0.02, 0.2), cloth);
                for k in -3i32..=3 {
                    let t = k as f32 / 3.0;
                    let frill = Shape::ellipse(v(0.5 * t, 0.16 - 0.2 * t * t), 0.13, 0.12);
                    fill(&frill.map(at), trim);
                }
            }
        }
        let tied = matches!(
            self.outfit,
            Outfit::Sailor | Outfit::Shirt | Outfit::Blazer | Outfit::Frilled
        );
        if tied && self.bow {
            bow(canvas, at(v(0.0, 0.3)), 0.36, 0.0, &palette.accent);
        } else if matches!(self.outfit, Outfit::Shirt | Outfit::Blazer) {
            let tie = Shape::polygon(&[
                v(-0.09, 0.12),
                v(0.09, 0.12),
                v(0.07, 0.3),
                v(0.16, 1.2),
                v(-0.16, 1.2),
                v(-0.07, 0.3),
            ])
            .map(at);
            canvas.fill(&tie, palette.accent.base);
            canvas.stroke(&tie, palette.accent.line, LINE);
        }
        if self.choker {
            let band = Shape::smooth_closed(&[
                v(-0.4, -0.24),
                v(0.0, -0.15),
                v(0.4, -0.24),
                v(0.4, -0.12),
                v(0.0, -0.03),
                v(-0.4, -0.12),
            ])
            .map(at);
            canvas.fill(&band, palette.accent.line);
        }
    }
}

/// The stripe along one side of a sailor collar.
fn sailor_stripe(side: f32) -> Shape {
    Shape::polygon(&[
        v(side * 1.02, 0.3),
        v(side * 1.07, 0.33),
        v(side * 0.93, 0.62),
        v(side * 0.12, 0.64),
        v(side * 0.16, 0.58),
        v(side * 0.9, 0.57),
    ])
}
