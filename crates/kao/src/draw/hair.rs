//! Hair as locks: tapered strips along a bent centre line, each with its own gradient, shadow
//! side, strands and gloss. The cuts in `hair_front`, `hair_side` and `hair_back` say where the
//! locks lie; this file knows how one looks.

use super::canvas::{Canvas, Ink};
use super::geometry::{Shape, Vec2, lerp, power, sine_of_turns, v};
use super::head::LINE;
use super::palette::HairInk;
use super::random::Stream;

/// A lock of hair.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// Control points of the centre line, from root to tip.
    pub line: [Vec2; 4],
    /// Half width at the widest place.
    pub half_width: f32,
    /// Width of the root against the widest place.
    pub root: f32,
    /// Where along the line the lock begins to taper.
    pub taper_from: f32,
    /// Form of the taper: below 1 blunt, 1 straight, above 1 wispy.
    pub taper: f32,
    /// Waves: their height, and their number along the lock.
    pub wave: (f32, f32),
    /// Phase of the waves, in turns.
    pub phase: f32,
}

impl Lock {
    /// A lock along `line`, pointed and straight.
    pub fn new(line: [Vec2; 4], half_width: f32) -> Self {
        Lock {
            line,
            half_width,
            root: 0.55,
            taper_from: 0.5,
            taper: 0.85,
            wave: (0.0, 0.0),
            phase: 0.0,
        }
    }

    pub fn with_taper(self, from: f32, taper: f32) -> Self {
        Lock { taper_from: from, taper, ..self }
    }

    pub fn with_root(self, root: f32) -> Self {
        Lock { root, ..self }
    }

    pub fn with_wave(self, height: f32, number: f32, phase: f32) -> Self {
        Lock { wave: (height, number), phase, ..self }
    }

    /// The lock with its line moved by `map`.
    pub fn map(&self, map: impl Fn(Vec2) -> Vec2) -> Self {
        Lock { line: self.line.map(map), ..self.clone() }
    }

    fn on_curve(&self, s: f32) -> Vec2 {
        let [a, b, c, d] = self.line;
        let r = 1.0 - s;
        a * (r * r * r) + b * (3.0 * r * r * s) + c * (3.0 * r * s * s) + d * (s * s * s)
    }

    fn normal(&self, s: f32) -> Vec2 {
        const STEP: f32 = 0.02;
        let (low, high) = ((s - STEP).max(0.0), (s + STEP).min(1.0));
        (self.on_curve(high) - self.on_curve(low)).normalized().perpendicular()
    }

    /// The centre line at `s`, 0 at the root and 1 at the tip.
    pub fn at(&self, s: f32) -> Vec2 {
        let (height, number) = self.wave;
        if height == 0.0 {
            return self.on_curve(s);
        }
        let sway = height * sine_of_turns(number * s + self.phase) * s.min(0.5) * 2.0;
        self.on_curve(s) + self.normal(s) * sway
    }

    pub fn half_width_at(&self, s: f32) -> f32 {
        let grow = (s / 0.35).min(1.0);
        let grown = lerp(self.root, 1.0, grow * (2.0 - grow));
        let tapered = if s <= self.taper_from {
            1.0
        } else {
            power((1.0 - s) / (1.0 - self.taper_from), self.taper)
        };
        self.half_width * grown * tapered
    }

    fn offset(&self, s: f32, a: f32) -> Vec2 {
        self.at(s) + self.normal(s) * (a * self.half_width_at(s))
    }

    fn samples(&self) -> usize {
        if self.wave.0 == 0.0 { 8 } else { 8 + (self.wave.1 * 5.0) as usize }
    }

    /// The outline of the lock.
    pub fn outline(&self) -> Shape {
        self.edge().close()
    }

    /// The outline from one side of the root round the tip to the other.
    fn edge(&self) -> Shape {
        let n = self.samples();
        let at = |i: usize| i as f32 / n as f32;
        let left: Vec<Vec2> = (1..=n).map(|i| self.offset(at(i), 1.0)).collect();
        let right: Vec<Vec2> = (0..n).rev().map(|i| self.offset(at(i), -1.0)).collect();
        let mut shape = Shape::new().move_to(self.offset(0.0, 1.0)).through(&left);
        if self.taper < 0.3 {
            shape = shape.line_to(self.offset(0.99, -1.0));
        }
        shape.through(&right)
    }

    /// The part between `from` and `to` along the lock and `a` and `b` across it (−1 to 1),
    /// narrowing to a point at both ends.
    pub fn sliver(&self, from: f32, to: f32, a: f32, b: f32) -> Shape {
        self.patch(from, to, a, b, 0.6)
    }

    /// A [`sliver`](Self::sliver) with long, thin points.
    pub fn spike(&self, from: f32, to: f32, a: f32, b: f32) -> Shape {
        self.patch(from, to, a, b, 1.3)
    }

    fn patch(&self, from: f32, to: f32, a: f32, b: f32, pointed: f32) -> Shape {
        let n = if to - from > 0.4 { self.samples() } else { 4 };
        let middle = 0.5 * (a + b);
        let half = 0.5 * (b - a);
        let at = |i: usize, side: f32| {
            let t = i as f32 / n as f32;
            let swell = power(4.0 * t * (1.0 - t), pointed);
            self.offset(lerp(from, to, t), middle + side * half * swell)
        };
        let left: Vec<Vec2> = (1..=n).map(|i| at(i, 1.0)).collect();
        let right: Vec<Vec2> = (0..n).rev().map(|i| at(i, -1.0)).collect();
        Shape::new().move_to(at(0, 1.0)).through(&left).through(&right).close()
    }

    /// Where the lock first goes below the line `height(x)`, if it does.
    pub fn crossing(&self, height: impl Fn(f32) -> f32) -> Option<f32> {
        const STEPS: usize = 24;
        let below = |s: f32| {
            let p = self.at(s);
            p.y > height(p.x)
        };
        if below(0.0) {
            return None;
        }
        (1..=STEPS).map(|i| i as f32 / STEPS as f32).find(|&s| below(s))
    }
}

/// How much darker the hair is on the side away from the light.
const SIDE_TONE: f32 = 0.25;

/// How the hair of one picture is drawn.
#[derive(Clone, Debug)]
pub(super) struct HairStyle {
    /// Strands per lock, about.
    pub strands: f32,
    /// y of the gloss band in the middle of the head.
    pub gloss_y: f32,
    /// How far the band sinks toward the sides.
    pub gloss_bow: f32,
    /// Half length of the band along a lock.
    pub gloss_length: f32,
    /// Strength of the band as a gradient.
    pub soft_gloss: f32,
    /// Bright spikes in the band of a lock of usual width.
    pub spikes: f32,
    /// Opacity of outlines.
    pub outline: f32,
    /// Strength of the shadow sides.
    pub contrast: f32,
    pub wave: f32,
}

impl HairStyle {
    pub fn sample(stream: &mut Stream) -> Self {
        HairStyle {
            strands: stream.range(0.2, 2.4),
            gloss_y: stream.range(-1.16, -0.78),
            gloss_bow: stream.range(0.12, 0.5),
            gloss_length: stream.range(0.03, 0.09),
            soft_gloss: if stream.chance(0.8) { stream.range(0.25, 0.8) } else { 0.0 },
            spikes: if stream.chance(0.65) { stream.range(1.5, 3.5) } else { 0.0 },
            outline: stream.range(0.45, 0.95),
            contrast: stream.range(0.45, 1.0),
            wave: if stream.chance(0.3) { stream.range(0.03, 0.11) } else { 0.0 },
        }
    }
}

/// Draws locks with the colours and style of one head.
pub(super) struct HairPainter<'a> {
    pub ink: &'a HairInk,
    pub style: &'a HairStyle,
    /// −1 or 1: the side the light comes from.
    pub light: f32,
    /// Moves the gloss band with the turn of the head.
    pub gloss_shift: f32,
}

impl HairPainter<'_> {
    /// Draws one lock. `depth` is 0 for hair in the light and 1 for hair in the shadow of other
    /// hair.
    pub fn paint(&self, canvas: &mut Canvas, lock: &Lock, stream: &mut Stream, depth: f32) {
        let ink = self.ink;
        let from_light = (-lock.at(0.6).x * self.light).clamp(-1.0, 1.0);
        let jitter = self.style.contrast * stream.range(-0.25, 0.45);
        let tone = (depth + jitter + SIDE_TONE * from_light).clamp(0.0, 1.0);
        let outline = lock.outline();
        let body = ink.base.mix(ink.shade, tone);
        let from = lock.at(0.0);
        let to = lock.at(1.0);
        let crown = body.mix(ink.light, 0.3 * (1.0 - depth));
        let tip = body.mix(ink.tip, 0.8);
        let gloss = if depth < 0.5 { self.gloss(lock) } else { None };
        let stops = match gloss {
            Some(s) if self.style.soft_gloss > 0.0 => {
                let along = to - from;
                let on = lock.at(s) - from;
                let length = along.x * along.x + along.y * along.y;
                let t = ((on.x * along.x + on.y * along.y) / length.max(1e-3)).clamp(0.1, 0.8);
                let bright = body.mix(ink.gloss, self.style.soft_gloss * ink.shine);
                vec![
                    (0.0, crown),
                    (0.45 * t, body),
                    (t, bright),
                    (t + 0.5 * (1.0 - t), body),
                    (1.0, tip),
                ]
            }
            _ => vec![
                (0.0, crown),
                (0.3, body.mix(ink.light, 0.6 * (1.0 - depth))),
                (0.65, body),
                (1.0, tip),
            ],
        };
        canvas.fill(&outline, Ink::Linear(from, to, stops));

        // `sliver` runs across the lock from the side of its normal; find which side is dark.
        let across = lock.normal(0.5);
        let dark = if across.x * self.light > 0.0 { -1.0 } else { 1.0 };
        let edge = stream.range(0.1, 0.55);
        let (a, b) = if dark > 0.0 { (edge, 1.0) } else { (-1.0, -edge) };
        let start = stream.range(0.1, 0.4);
        let shade = body.mix(ink.deep, 0.85).alpha(self.style.contrast);
        canvas.fill(&lock.sliver(start, 1.0, a, b), shade);
        if depth < 0.6 {
            let (a, b) = if dark > 0.0 { (-0.8, -0.35) } else { (0.35, 0.8) };
            canvas.fill(&lock.sliver(0.35, 0.95, a, b), ink.light.alpha(0.5 * (1.0 - depth)));
        }
        let n_strands = (self.style.strands * stream.range(0.5, 1.5)) as usize;
        for _ in 0..n_strands {
            let a = stream.range(-0.75, 0.75);
            let from = stream.range(0.0, 0.4);
            let to = stream.range(0.65, 1.0);
            let width = (0.009 / lock.half_width.max(0.03)).min(0.3);
            canvas.fill(&lock.sliver(from, to, a - width, a + width), ink.line.alpha(0.5));
        }
        if let Some(s) = gloss {
            self.paint_gloss(canvas, lock, stream, s);
        }
        // Outlines fade toward the root, where locks flow together.
        let line = ink.line.alpha(self.style.outline);
        let fading = vec![(0.0, ink.line.alpha(0.0)), (0.5, line.alpha(0.6 * line.a)), (0.8, line)];
        canvas.stroke(&lock.edge(), Ink::Linear(from, to, fading), LINE);
    }

    /// Where the gloss band crosses the lock.
    fn gloss(&self, lock: &Lock) -> Option<f32> {
        let style = self.style;
        let band = |x: f32| {
            let x = x - self.gloss_shift;
            style.gloss_y + style.gloss_bow * x * x
        };
        lock.crossing(band).filter(|&s| s < 0.85)
    }

    /// The light that runs around the head as a band, broken into spikes, at `s` of a lock.
    fn paint_gloss(&self, canvas: &mut Canvas, lock: &Lock, stream: &mut Stream, s: f32) {
        let style = self.style;
        let pieces = (style.spikes * lock.half_width / 0.15 + stream.range(0.0, 1.0)) as usize;
        for k in 0..pieces {
            let a = lerp(-0.8, 0.8, (k as f32 + stream.range(0.1, 0.9)) / pieces as f32);
            let half = stream.range(0.25, 0.75) / pieces as f32;
            let from = (s - style.gloss_length * stream.range(0.3, 2.0)).max(0.02);
            let to = (s + style.gloss_length * stream.range(0.3, 2.0)).min(0.95);
            if from < to {
                let piece = lock.spike(from, to, a - half, a + half);
                canvas.fill(&piece, self.ink.gloss.alpha(self.ink.shine * stream.range(0.5, 1.0)));
            }
        }
    }

    /// A mass of hair of any outline: flat shade with a vertical gradient.
    pub fn paint_mass(
        &self,
        canvas: &mut Canvas,
        shape: &Shape,
        top: f32,
        bottom: f32,
        depth: f32,
    ) {
        let ink = self.ink;
        let stops = vec![
            (0.0, ink.base.mix(ink.shade, 0.3 + 0.5 * depth)),
            (0.5, ink.base.mix(ink.shade, depth)),
            (1.0, ink.base.mix(ink.deep, depth)),
        ];
        canvas.fill(shape, Ink::Linear(v(0.0, top), v(0.0, bottom), stops));
        canvas.stroke(shape, ink.line.alpha(self.style.outline), LINE);
    }
}
