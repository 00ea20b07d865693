//! Front hair: the cap over the skull and the fringe, in a dozen cuts.

use super::canvas::{Canvas, Ink};
use super::geometry::{Shape, lerp, sin_cos, v};
use super::hair::{HairPainter, Lock};
use super::head::{Head, LINE};
use super::random::Stream;

/// The cuts of the fringe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FrontCut {
    /// Cut straight above the eyes.
    Blunt,
    /// Cut in an arc, longer at the temples.
    Rounded,
    /// Pointed tips of changing length.
    Zigzag,
    /// One lock between the eyes, the rest to the sides.
    CentreLock,
    /// Swept across the forehead from a side parting.
    Swept,
    /// Parted in the middle like a curtain.
    Curtain,
    /// Swept so far that it hides part of an eye.
    OverEye,
    /// Many short tips, unruly.
    Choppy,
    /// Thin, long, with the forehead between.
    Wispy,
    /// Combed back, a strand or two loose.
    Back,
    /// Pointed and pushed to one side.
    Spiky,
    /// Short on one side, long on the other.
    Slanted,
    /// Two arcs that leave an M of forehead.
    Arched,
}

/// The fewest locks that make a fringe.
const FEWEST_LOCKS: usize = 4;

/// What is chosen about the front hair.
#[derive(Clone, Debug)]
pub(super) struct FrontHair {
    pub cut: FrontCut,
    /// x of the parting.
    pub parting: f32,
    /// Height of the hair above the skull.
    pub volume: f32,
    /// Added to the length of the fringe.
    pub length: f32,
    pub ahoge: usize,
    /// Many narrow locks or few broad ones, about 1.
    pub fineness: f32,
    /// Long thin strands that fall over the face.
    pub strays: usize,
    /// How often locks end in two tips.
    pub split: f32,
    /// Tips stand off the outline.
    pub tufts: bool,
    /// −1 or 1: where it sweeps to.
    pub sweep: f32,
}

impl FrontHair {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        use FrontCut::*;
        let cut = stream.weighted(&[
            (Blunt, 2.2 - 1.8 * masculine),
            (Rounded, 1.5 - masculine),
            (Zigzag, 3.0),
            (CentreLock, 3.0),
            (Swept, 2.6),
            (Curtain, 1.6),
            (OverEye, 0.8),
            (Choppy, 2.0 + masculine),
            (Wispy, 1.5),
            (Back, 0.5),
            (Spiky, 0.8 + 2.0 * masculine),
            (Slanted, 1.8),
            (Arched, 1.4),
        ]);
        let parting = match cut {
            Swept | OverEye => 0.42 * stream.sign() + stream.around(0.0, 0.06),
            Curtain => stream.around(0.0, 0.1),
            _ => stream.around(0.0, 0.16),
        };
        FrontHair {
            cut,
            parting,
            volume: stream.range(0.0, 0.16),
            length: stream.around(0.1, 0.06),
            fineness: stream.range(0.72, 1.2),
            strays: stream.count(0, 3),
            split: stream.range(0.0, 0.9),
            tufts: stream.chance(0.2 + 0.3 * masculine),
            ahoge: if stream.chance(0.16) { stream.count(1, 2) } else { 0 },
            sweep: if matches!(cut, Swept | OverEye) { -parting.signum() } else { stream.sign() },
        }
    }

    /// y of the top of the hair.
    pub fn crown(&self) -> f32 {
        -1.56 - self.volume
    }

    /// y of the shadowed layer beneath the fringe, where the fringe covers the forehead.
    fn under_layer(&self) -> Option<f32> {
        match self.cut {
            FrontCut::Curtain | FrontCut::Arched | FrontCut::Back => None,
            FrontCut::Swept | FrontCut::OverEye => Some(-0.5),
            _ => Some(-0.42),
        }
    }

    /// A number of locks between `low` and `high`, fewer where the hair falls in broad ones.
    fn number(&self, stream: &mut Stream, low: usize, high: usize) -> usize {
        ((stream.count(low, high) as f32 * self.fineness).round() as usize).max(FEWEST_LOCKS)
    }

    /// One lock from the parting over the skull to (`x`, `y`); `bend` bows it sideways.
    fn lock(&self, x: f32, y: f32, half_width: f32, bend: f32) -> Lock {
        let crown = self.crown() + 0.08;
        let p = self.parting;
        let dx = x - p;
        let root = v(p + 0.16 * dx, crown + 0.02 * dx * dx);
        let over = v(p + 0.62 * dx, crown + 0.1 * dx * dx + 0.03);
        let down = v(p + 1.06 * dx - bend, lerp(crown, y, 0.52 + 0.05 * dx.abs()));
        Lock::new([root, over, down, v(x, y)], half_width).with_root(0.25)
    }

    /// The locks of the fringe, in frontal coordinates, from the lowest to the topmost.
    pub fn locks(&self, stream: &mut Stream) -> Vec<Lock> {
        let l = self.length;
        let s = self.sweep;
        let mut locks = Vec::new();
        let spread = |n: usize, i: usize| lerp(-1.02, 1.02, (i as f32 + 0.5) / n as f32);
        match self.cut {
            FrontCut::Blunt | FrontCut::Rounded => {
                let n = self.number(stream, 6, 9);
                let arc = if self.cut == FrontCut::Rounded { 0.3 } else { 0.04 };
                for i in 0..n {
                    let x = spread(n, i);
                    let y = -0.25 + l + arc * x * x + stream.range(-0.025, 0.025);
                    let lock = self.lock(x, y, 1.3 / n as f32, 0.0);
                    locks.push(lock.with_taper(0.75, stream.range(0.12, 0.28)));
                }
            }
            FrontCut::Zigzag => {
                let n = self.number(stream, 5, 8);
                for i in 0..n {
                    let x = spread(n, i);
                    let long = if i % 2 == 0 { 0.16 } else { 0.0 };
                    let y = -0.26 + l + long + 0.16 * x * x + stream.range(-0.06, 0.06);
                    locks.push(
                        self.lock(x + 0.05 * s, y, 1.35 / n as f32, 0.1 * s).with_taper(0.55, 0.8),
                    );
                }
            }
            FrontCut::CentreLock => {
                for side in [-1.0, 1.0] {
                    for (x, y, w) in [(0.95, 0.12, 0.2), (0.72, -0.16, 0.21), (0.44, -0.3, 0.21)] {
                        let y = y + l + stream.range(-0.06, 0.06);
                        locks.push(self.lock(side * x, y, w, -0.1 * side).with_taper(0.5, 0.8));
                    }
                }
                let y = 0.06 + l + stream.range(-0.08, 0.08);
                locks.push(self.lock(0.06 * s, y, 0.2, 0.08 * s).with_taper(0.5, 0.85));
                if stream.chance(0.5) {
                    locks
                        .push(self.lock(-0.16 * s, y - 0.16, 0.12, -0.08 * s).with_taper(0.5, 0.9));
                }
            }
            FrontCut::Swept | FrontCut::OverEye => {
                let n = self.number(stream, 5, 7);
                let deep = if self.cut == FrontCut::OverEye { 0.42 } else { 0.12 };
                // On the short side of the parting.
                for (x, y) in [(0.98, 0.05), (0.78, -0.3)] {
                    locks.push(self.lock(-s * x, y + l, 0.2, 0.06 * s).with_taper(0.5, 0.8));
                }
                for i in (0..n).rev() {
                    let t = i as f32 / (n - 1) as f32;
                    let x = lerp(-0.28, 0.98, t);
                    let y = lerp(-0.42, 0.16, t)
                        + deep * (1.0 - (2.0 * t - 1.0) * (2.0 * t - 1.0))
                        + l
                        + stream.range(-0.05, 0.05);
                    locks.push(self.lock(s * x, y, 0.2, -0.2 * s).with_taper(0.5, 0.75));
                }
            }
            FrontCut::Curtain => {
                for side in [-1.0, 1.0] {
                    for (x, y, w) in [
                        (0.98, 0.5, 0.16),
                        (0.92, 0.22, 0.18),
                        (0.78, -0.05, 0.18),
                        (0.58, -0.34, 0.16),
                    ] {
                        let y = y + l + stream.range(-0.08, 0.08);
                        let bend = side * stream.range(0.0, 0.12);
                        locks.push(
                            self.lock(self.parting * 0.4 + side * x, y, w, bend)
                                .with_taper(0.55, 0.8),
                        );
                    }
                }
            }
            FrontCut::Choppy => {
                let n = self.number(stream, 7, 10);
                for i in 0..n {
                    let x = spread(n, i) + stream.range(-0.05, 0.05);
                    let y = -0.22 + l + 0.12 * x * x + stream.range(-0.16, 0.12);
                    locks.push(
                        self.lock(x, y, 1.3 / n as f32, stream.range(-0.16, 0.16))
                            .with_taper(0.5, 0.85),
                    );
                }
            }
            FrontCut::Wispy => {
                let n = self.number(stream, 6, 9);
                for i in 0..n {
                    let x = spread(n, i) + stream.range(-0.05, 0.05);
                    let y = -0.05 + l + 0.15 * x * x + stream.range(-0.18, 0.12);
                    locks.push(
                        self.lock(x, y, 1.15 / n as f32, stream.range(-0.1, 0.1))
                            .with_taper(0.35, 1.1),
                    );
                }
            }
            FrontCut::Back => {
                for _ in 0..stream.count(1, 3) {
                    let x = stream.range(-0.5, 0.5);
                    let y = stream.range(-0.35, 0.1);
                    locks.push(
                        self.lock(x, y, 0.055, stream.range(-0.25, 0.25)).with_taper(0.3, 1.0),
                    );
                }
                for side in [-1.0, 1.0] {
                    locks.push(
                        self.lock(side, stream.range(-0.1, 0.3), 0.12, 0.0).with_taper(0.4, 0.9),
                    );
                }
            }
            FrontCut::Spiky => {
                let n = self.number(stream, 6, 8);
                for i in 0..n {
                    let x = spread(n, i) + 0.12 * s;
                    let y = -0.3 + l + 0.2 * x * x + stream.range(-0.14, 0.1);
                    locks.push(self.lock(x, y, 1.5 / n as f32, 0.3 * s).with_taper(0.4, 1.0));
                }
            }
            FrontCut::Slanted => {
                let n = self.number(stream, 6, 8);
                for i in 0..n {
                    let x = spread(n, i);
                    let y = -0.2 + l + 0.24 * x * s + 0.08 * x * x + stream.range(-0.05, 0.05);
                    locks.push(self.lock(x, y, 1.4 / n as f32, -0.12 * s).with_taper(0.55, 0.75));
                }
            }
            FrontCut::Arched => {
                for side in [-1.0, 1.0] {
                    for (x, y, w) in [
                        (0.98, 0.2, 0.18),
                        (0.8, -0.02, 0.2),
                        (0.58, -0.38, 0.17),
                        (0.34, -0.5, 0.15),
                    ] {
                        let y = y + l + stream.range(-0.05, 0.05);
                        locks.push(self.lock(side * x, y, w, -0.14 * side).with_taper(0.5, 0.75));
                    }
                }
                let y = -0.12 + l;
                locks.push(
                    self.lock(stream.range(-0.08, 0.08), y, 0.13, 0.1 * s).with_taper(0.5, 0.85),
                );
            }
        }
        for _ in 0..self.strays {
            // A long thin strand between the eyes or beside one.
            let lock = if stream.chance(0.35) {
                let x = stream.range(-0.16, 0.16);
                self.lock(
                    x,
                    stream.range(0.1, 0.36),
                    stream.range(0.045, 0.08),
                    stream.range(-0.12, 0.12),
                )
            } else {
                let side = stream.sign();
                let x = side * stream.range(0.68, 0.86);
                let bend = -side * stream.range(0.02, 0.16);
                self.lock(x, stream.range(0.3, 0.85), stream.range(0.06, 0.11), bend)
            };
            locks.push(lock.with_taper(0.3, 1.0));
        }
        locks
    }

    /// The hair over the skull down to the hairline, in frontal coordinates.
    fn cap(&self) -> Shape {
        let top = self.crown();
        let wide = 1.17 + 0.5 * self.volume;
        // Combed back, the hairline shows; otherwise the fringe hides it.
        let line = match self.cut {
            FrontCut::Back => -0.78,
            FrontCut::Curtain | FrontCut::Arched => -0.74,
            _ => -0.6,
        };
        let middle = match self.cut {
            FrontCut::Curtain => -1.02,
            FrontCut::Arched => -0.86,
            _ => line - 0.1,
        };
        Shape::smooth_closed(&[
            v(0.0, top),
            v(0.5, top + 0.07),
            v(0.95, top + 0.33),
            v(wide, -0.75),
            v(wide - 0.05, -0.3),
            v(1.0, -0.1),
            v(0.92, -0.35),
            v(0.78, line + 0.1),
            v(0.4, line - 0.03),
            v(self.parting * 0.7, middle),
            v(-0.4, line - 0.03),
            v(-0.78, line + 0.1),
            v(-0.92, -0.35),
            v(-1.0, -0.1),
            v(-wide + 0.05, -0.3),
            v(-wide, -0.75),
            v(-0.95, top + 0.33),
            v(-0.5, top + 0.07),
        ])
    }

    /// The outline of all front hair, as it lies on the turned head.
    pub fn outline(&self, head: &Head, locks: &[Lock]) -> Shape {
        let cap = self.cap().map(|p| head.hair(p));
        locks.iter().fold(cap, |all, lock| all.join(lock.outline()))
    }

    /// Draws the hair over the skull, which all other locks lie on.
    pub fn paint_cap(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        let ink = painter.ink;
        let cap = self.cap().map(|p| head.hair(p));
        let stops = vec![
            (0.0, ink.base.mix(ink.light, 0.3)),
            (0.4, ink.base.mix(ink.light, 0.5)),
            (1.0, ink.shade),
        ];
        let top = head.hair(v(0.0, self.crown()));
        canvas.fill(&cap, Ink::Linear(top, head.hair(v(0.0, -0.4)), stops));
        canvas.stroke(&cap, ink.line.alpha(painter.style.outline), LINE);
        if self.cut == FrontCut::Back {
            self.paint_combed(canvas, head, painter, stream);
        }
        if matches!(self.cut, FrontCut::Spiky | FrontCut::Choppy) || self.tufts {
            self.paint_tufts(canvas, head, painter, stream);
        }
    }

    /// Draws the fringe; `locks` lie on the turned head.
    pub fn paint(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        locks: &[Lock],
        stream: &mut Stream,
    ) {
        if let Some(height) = self.under_layer() {
            // A shadowed layer beneath, so that no bare hairline shows between the locks.
            let n = self.number(stream, 5, 7);
            for i in 0..n {
                let x = lerp(-0.92, 0.92, (i as f32 + 0.5) / n as f32) + stream.range(-0.05, 0.05);
                let y = height + 0.1 * x * x + stream.range(-0.1, 0.08);
                let lock = self.lock(x, y, 1.3 / n as f32, 0.0).with_taper(0.6, 0.9);
                painter.paint(canvas, &lock.map(|p| head.hair(p)), stream, 0.6);
            }
        }
        for lock in locks {
            if lock.taper > 0.5 && stream.chance(self.split) {
                // A thinner tip beside the lock's own.
                let aside = lock.half_width * stream.range(0.7, 1.2) * stream.sign();
                let shorter = stream.range(-0.12, 0.04);
                let [root, over, down, tip] = lock.line;
                let line = [root, over, down + v(0.3 * aside, 0.0), tip + v(aside, shorter)];
                let companion =
                    Lock::new(line, 0.6 * lock.half_width).with_root(0.2).with_taper(0.3, 1.0);
                painter.paint(canvas, &companion, stream, 0.25);
            }
            painter.paint(canvas, lock, stream, 0.0);
        }
        for k in 0..self.ahoge {
            let side = if k == 0 { self.sweep } else { -self.sweep };
            let root = v(self.parting, self.crown() + 0.06);
            let rise = stream.range(0.22, 0.4);
            let reach = stream.range(0.25, 0.5) * side;
            let lock = Lock::new(
                [
                    root,
                    root + v(-0.1 * side, -rise),
                    root + v(0.6 * reach, -1.4 * rise),
                    root + v(reach, -0.3 * rise),
                ],
                0.055,
            )
            .with_taper(0.3, 0.9)
            .map(|p| head.hair(p));
            painter.paint(canvas, &lock, stream, 0.0);
        }
    }

    /// Tips that stand off the outline of the head.
    fn paint_tufts(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        for _ in 0..stream.count(3, 7) {
            let angle = stream.range(-1.5, 1.5);
            let (sin, cos) = sin_cos(angle);
            let out = v(sin, -cos);
            let middle = v(0.0, -0.55);
            let rim = v(1.14 * sin, -(self.crown() - middle.y).abs() * cos);
            let along = v(cos, sin) * (angle.signum() * stream.range(0.15, 0.4));
            let rise = stream.range(0.06, 0.2);
            let lock = Lock::new(
                [
                    middle + rim * 0.72 - along,
                    middle + rim * 0.98 - along * 0.6,
                    middle + rim * 1.04 + along * 0.4,
                    middle + rim + out * rise + along * 1.4,
                ],
                stream.range(0.09, 0.15),
            )
            .with_taper(0.3, 0.9)
            .map(|p| head.hair(p));
            painter.paint(canvas, &lock, stream, 0.1);
        }
    }

    /// Locks from the hairline up over the skull.
    fn paint_combed(
        &self,
        canvas: &mut Canvas,
        head: &Head,
        painter: &HairPainter<'_>,
        stream: &mut Stream,
    ) {
        const LOCKS: usize = 9;
        for i in 0..LOCKS {
            let t = (i as f32 + 0.5) / LOCKS as f32;
            let x = lerp(-0.85, 0.85, t);
            let y = -0.8 + 0.3 * x * x;
            let lock = Lock::new(
                [
                    v(x * 0.55, self.crown() + 0.05 + 0.1 * x * x),
                    v(x * 0.95, self.crown() + 0.15 + 0.15 * x * x),
                    v(x * 1.05, y - 0.25),
                    v(x, y),
                ],
                0.15,
            )
            .with_taper(0.45, 0.9)
            .map(|p| head.hair(p));
            painter.paint(canvas, &lock, stream, 0.0);
        }
    }
}
