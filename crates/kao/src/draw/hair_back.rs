//! Back hair: the mass behind head and shoulders, and what is tied into tails, buns and braids.

use super::canvas::Canvas;
use super::geometry::{Shape, Vec2, lerp, sin_cos, v};
use super::hair::{HairPainter, Lock};
use super::head::{Head, LINE};
use super::random::Stream;

/// The cuts of the back hair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BackCut {
    /// Close to the neck.
    Short,
    /// Close, with rough tips.
    Shaggy,
    /// To the chin, round.
    Bob,
    /// To the shoulders, pointed.
    Medium,
    /// To the shoulders, flipped outward.
    Flared,
    Long,
    LongWavy,
    /// Long, in heavy rough locks.
    Wild,
    TwinTails,
    LowTails,
    Ponytail,
    SideTail,
    Buns,
    Braids,
    Drills,
}

/// The extent of the hair around the head.
struct Mass {
    /// y of the tips.
    bottom: f32,
    /// Half width at the lower end.
    wide: f32,
    /// How much the tips differ in length.
    ragged: f32,
    n_locks: usize,
}

/// What is chosen about the back hair.
#[derive(Clone, Debug)]
pub(super) struct BackHair {
    pub cut: BackCut,
    pub width: f32,
    /// Side of a single tail.
    pub side: f32,
    /// Tied with bows rather than bands.
    pub bows: bool,
    /// Height of what is tied.
    pub tie_y: f32,
}

impl BackHair {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        use BackCut::*;
        let feminine = 1.0 - masculine;
        let cut = stream.weighted(&[
            (Short, 1.0 + 5.0 * masculine),
            (Shaggy, 1.0 + 4.0 * masculine),
            (Bob, 3.0 * feminine),
            (Medium, 2.5),
            (Flared, 1.2 * feminine),
            (Long, 5.0 * feminine),
            (LongWavy, 2.5 * feminine),
            (Wild, 1.2 * feminine),
            (TwinTails, 2.2 * feminine),
            (LowTails, 1.0 * feminine),
            (Ponytail, 1.2),
            (SideTail, 0.8 * feminine),
            (Buns, 0.7 * feminine),
            (Braids, 0.9 * feminine),
            (Drills, 0.5 * feminine),
        ]);
        BackHair {
            cut,
            width: stream.range(0.98, 1.22),
            side: stream.sign(),
            bows: stream.chance(0.6),
            tie_y: stream.range(-1.05, -0.55),
        }
    }

    /// Where ribbons or bands belong, in frontal coordinates.
    pub fn ties(&self) -> Vec<Vec2> {
        match self.cut {
            BackCut::TwinTails | BackCut::Drills => {
                vec![v(-1.16, self.tie_y), v(1.16, self.tie_y)]
            }
            BackCut::SideTail => vec![v(1.16 * self.side, self.tie_y)],
            BackCut::LowTails | BackCut::Braids => vec![v(-1.02, 1.02), v(1.02, 1.02)],
            BackCut::Buns => vec![v(-0.86, -1.32), v(0.86, -1.32)],
            _ => Vec::new(),
        }
    }

    /// Whether the hair is rolled up, which hides a band.
    pub fn is_bun(&self) -> bool {
        self.cut == BackCut::Buns
    }

    /// Whether something is tied beside the crown, where pins would sit.
    pub fn is_tied_high(&self) -> bool {
        self.ties().iter().any(|tie| tie.y < 0.0)
    }

    /// The mass around the head that goes with the cut.
    fn mass(&self) -> Mass {
        let (bottom, wide, ragged, n_locks) = match self.cut {
            BackCut::Short => (0.55, 1.04, 0.16, 6),
            BackCut::Shaggy => (0.75, 1.16, 0.3, 9),
            BackCut::Bob => (1.0, 1.24, 0.05, 9),
            BackCut::Medium => (1.45, 1.26, 0.3, 9),
            BackCut::Flared => (1.25, 1.55, 0.3, 9),
            BackCut::Long => (3.4, 1.36, 0.1, 10),
            BackCut::LongWavy => (3.4, 1.55, 0.1, 10),
            BackCut::Wild => (2.2, 1.7, 0.6, 11),
            BackCut::LowTails | BackCut::Braids => (1.0, 1.14, 0.1, 7),
            BackCut::TwinTails | BackCut::SideTail | BackCut::Drills => (0.7, 1.06, 0.12, 6),
            BackCut::Ponytail | BackCut::Buns => (0.68, 1.06, 0.12, 6),
        };
        Mass { bottom, wide: wide * self.width, ragged, n_locks }
    }

    /// Draws what lies behind neck and face.
    pub fn paint(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        let behind = |p: Vec2| head.behind(p);
        match self.cut {
            BackCut::TwinTails | BackCut::SideTail | BackCut::Drills => {
                for tie in self.ties() {
                    self.paint_tail(canvas, behind(tie), painter, stream);
                }
            }
            BackCut::Buns => {
                for tie in self.ties() {
                    paint_bun(canvas, behind(tie * 1.04), painter);
                }
            }
            BackCut::Ponytail => {
                const LOCKS: usize = 5;
                let root = v(0.35 * self.side, self.tie_y - 0.35);
                for k in 0..LOCKS {
                    let t = k as f32 / (LOCKS - 1) as f32;
                    let reach = self.side * lerp(1.05, 1.75, t);
                    let line = [
                        root,
                        v(reach * 0.9, -1.9),
                        v(reach * 1.15, -0.2),
                        v(reach, 1.4 + 0.4 * t),
                    ];
                    let lock = Lock::new(line, 0.26).with_taper(0.5, 0.8).map(behind);
                    painter.paint(canvas, &lock, stream, 0.35);
                }
            }
            _ => {}
        }
        self.paint_mass(canvas, head, painter, stream);
    }

    /// Draws what falls before the shoulders.
    pub fn paint_over_shoulders(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        for side in [-1.0, 1.0] {
            match self.cut {
                BackCut::LowTails => {
                    for (dx, half) in [(0.14, 0.16), (0.0, 0.18), (-0.12, 0.13)] {
                        let lock = Lock::new(
                            [
                                v(side * 1.0, 0.85),
                                v(side * 1.1, 1.2),
                                v(side * (1.12 + dx), 1.6),
                                v(side * (1.0 + dx), 2.3),
                            ],
                            half,
                        )
                        .with_taper(0.6, 0.8)
                        .map(|p| head.behind(p));
                        painter.paint(canvas, &lock, stream, 0.0);
                    }
                }
                BackCut::Braids => paint_braid(canvas, head, side, painter),
                _ => {}
            }
        }
    }

    fn paint_mass(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        let Mass { bottom, wide, ragged, n_locks } = self.mass();
        let w = self.width;
        let round = matches!(self.cut, BackCut::Bob);
        let wave = match self.cut {
            BackCut::LongWavy => (0.1, 2.6),
            _ if painter.style.wave > 0.0 && bottom > 1.1 => (painter.style.wave, 2.0),
            _ => (0.0, 0.0),
        };
        let low = bottom - 0.45;
        let shape = Shape::smooth_closed(&[
            v(0.0, -1.5),
            v(0.8, -1.25),
            v(1.14 * w, -0.6),
            v(lerp(1.16 * w, wide, 0.5), lerp(-0.6, low, 0.5)),
            v(wide * if round { 0.97 } else { 0.92 }, low),
            v(0.7 * wide, bottom - 0.3),
            v(0.0, bottom - 0.25),
            v(-0.7 * wide, bottom - 0.3),
            v(-wide * if round { 0.97 } else { 0.92 }, low),
            v(-lerp(1.16 * w, wide, 0.5), lerp(-0.6, low, 0.5)),
            v(-1.14 * w, -0.6),
            v(-0.8, -1.25),
        ])
        .map(|p| head.behind(p));
        painter.paint_mass(canvas, &shape, -1.0, bottom.min(1.8), 0.8);
        // From the middle outward, so that the outer locks lie on top.
        let mut order: Vec<f32> =
            (0..n_locks).map(|i| lerp(-1.0, 1.0, (i as f32 + 0.5) / n_locks as f32)).collect();
        order.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let phase = stream.unit();
        for x in order {
            let end = bottom
                + stream.range(-1.0, 0.35) * ragged
                + if round { -0.12 * x * x } else { 0.0 };
            let tip_x = x * wide * if round { 0.86 } else { 1.0 } + stream.range(-0.06, 0.06);
            let outer = if round { 1.34 } else { 1.08 };
            let line = [
                v(x * 0.85, -1.2),
                v(x * 1.28 * w, -0.6),
                v(x * wide * outer, lerp(-0.6, end, 0.55)),
                v(tip_x, end),
            ];
            let half = 1.5 * wide / n_locks as f32;
            let mut lock = Lock::new(line, half)
                .with_taper(if round { 0.75 } else { 0.55 }, if round { 0.4 } else { 0.8 });
            if wave.0 > 0.0 {
                lock = lock.with_wave(wave.0, wave.1, phase + 0.08 * x);
            }
            let depth = lerp(0.95, 0.25, x.abs() * x.abs());
            painter.paint(canvas, &lock.map(|p| head.behind(p)), stream, depth);
        }
    }

    /// A tail tied at `tie`, falling outward.
    fn paint_tail(
        &self,
        canvas: &mut Canvas,
        tie: Vec2,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        let side = tie.x.signum();
        let drill = self.cut == BackCut::Drills;
        let n = if drill { 3 } else { 4 };
        for k in 0..n {
            let t = k as f32 / (n - 1) as f32;
            let reach = side * lerp(0.15, 0.75, t);
            let lock = Lock::new(
                [
                    tie,
                    tie + v(side * lerp(0.25, 0.5, t), lerp(-0.1, -0.35, t)),
                    tie + v(reach * 1.3, 0.9),
                    tie + v(reach * 0.9, 2.4 + 0.2 * t),
                ],
                if drill { 0.24 } else { 0.22 },
            )
            .with_root(0.3)
            .with_taper(0.55, 0.8);
            let lock = if drill {
                lock.with_wave(0.1, 4.0, t * 0.5)
            } else {
                lock.with_wave(painter.style.wave * 0.8, 1.5, 0.2 * t)
            };
            painter.paint(canvas, &lock, stream, lerp(0.5, 0.05, t));
        }
    }
}

fn paint_bun(canvas: &mut Canvas, centre: Vec2, painter: &HairPainter<'_>) {
    let ink = painter.ink;
    let ball = Shape::ellipse(centre, 0.42, 0.4);
    painter.paint_mass(canvas, &ball, centre.y - 0.4, centre.y + 0.4, 0.4);
    let glow = Shape::ellipse(centre + v(painter.light * 0.12, -0.14), 0.18, 0.1);
    canvas.fill(&glow, ink.gloss.alpha(0.6 * ink.shine));
    for k in 0..3 {
        let (sin, cos) = sin_cos(0.9 * k as f32 + 0.4);
        let curve = Shape::smooth_open(&[
            centre + v(cos, sin) * 0.38,
            centre + v(sin, -cos) * 0.14,
            centre - v(cos, sin) * 0.3,
        ]);
        canvas.stroke(&curve, ink.line.alpha(0.6), LINE);
    }
}

fn paint_braid(canvas: &mut Canvas, head: &Head, side: f32, painter: &HairPainter<'_>) {
    const LINKS: usize = 6;
    let ink = painter.ink;
    for k in (0..LINKS).rev() {
        let y = 0.75 + 0.27 * k as f32;
        let x = side * (1.0 + 0.05 * k as f32 / LINKS as f32);
        for half in [-1.0f32, 1.0] {
            let link = Shape::smooth_closed(&[
                v(x, y + 0.26),
                v(x + half * 0.17, y + 0.1),
                v(x + half * 0.19, y - 0.06),
                v(x + half * 0.08, y - 0.1),
                v(x - half * 0.04, y + 0.02),
            ])
            .map(|p| head.behind(p));
            let body = if half * painter.light > 0.0 { ink.light } else { ink.base };
            canvas.fill(&link, body.mix(ink.shade, 0.25));
            canvas.stroke(&link, ink.line.alpha(painter.style.outline), LINE);
        }
    }
}
