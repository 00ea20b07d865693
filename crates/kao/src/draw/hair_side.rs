//! Side hair: what falls before the ears and frames the face.

use super::geometry::{lerp, v};
use super::hair::Lock;
use super::random::Stream;

/// The cuts of the side hair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SideCut {
    None,
    /// Thin, to the cheek.
    Wisp,
    /// Pointed, to the jaw.
    Pointed,
    /// Cut straight at the cheek, as of old at court.
    Court,
    /// Long and straight over the shoulder.
    Long,
    /// Curled in under the chin.
    CurledIn,
    /// Flipped outward.
    Flipped,
    /// Long and wavy.
    Wavy,
    /// Rough tips, short.
    Rough,
    /// Short hair before the ear.
    Burns,
    /// A ringlet.
    Ringlet,
}

/// What is chosen about the side hair.
#[derive(Clone, Debug)]
pub(super) struct SideHair {
    /// Left and right in the picture.
    pub cuts: [SideCut; 2],
    /// Added to the length.
    pub length: f32,
    pub width: f32,
}

impl SideHair {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        use SideCut::*;
        let feminine = 1.0 - masculine;
        let choices = [
            (None, 0.6),
            (Wisp, 1.2),
            (Pointed, 3.0),
            (Court, 1.0 * feminine),
            (Long, 3.0 * feminine),
            (CurledIn, 1.6 * feminine),
            (Flipped, 1.0),
            (Wavy, 1.6 * feminine),
            (Rough, 1.6),
            (Burns, 0.4 + 3.0 * masculine),
            (Ringlet, 0.35 * feminine),
        ];
        let cut = stream.weighted(&choices);
        let other = if stream.chance(0.08) { Wisp } else { cut };
        SideHair {
            cuts: [cut, other],
            length: stream.around(0.0, 0.12),
            width: stream.range(0.85, 1.2),
        }
    }

    /// The locks of one side (−1 or 1), in frontal coordinates, lowest first.
    pub fn locks(&self, side: f32, stream: &mut Stream) -> Vec<Lock> {
        let cut = self.cuts[usize::from(side > 0.0)];
        let l = self.length;
        let w = self.width;
        let mut locks = Vec::new();
        let mut add = |x: f32, y: f32, half: f32, bend: f32, from: f32, taper: f32| {
            let line = [
                v(side * 0.42, -1.34),
                v(side * (1.28 + 0.3 * bend), -1.26),
                v(side * (1.04 * x + bend), lerp(-0.6, y, 0.5)),
                v(side * x, y),
            ];
            locks.push(Lock::new(line, half * w).with_root(0.2).with_taper(from, taper));
        };
        // Whatever the cut, the temples are covered.
        add(1.04, 0.2, 0.14, 0.04, 0.4, 0.9);
        let mut jitter = |amount: f32| stream.range(-amount, amount);
        match cut {
            SideCut::None => {}
            SideCut::Wisp => add(0.8, 0.65 + l + jitter(0.15), 0.09, 0.16, 0.3, 1.0),
            SideCut::Pointed => {
                add(1.0, 0.9 + l, 0.13, 0.1, 0.5, 0.9);
                add(0.78, 0.8 + l + jitter(0.1), 0.15, 0.1, 0.45, 0.9);
            }
            SideCut::Court => {
                add(1.08, 0.72 + l, 0.12, 0.02, 0.9, 0.2);
                add(0.89, 0.7 + l, 0.16, 0.03, 0.9, 0.2);
            }
            SideCut::Long => {
                add(1.16, 2.4, 0.17, 0.06, 0.8, 0.9);
                add(1.0, 2.1 + l, 0.16, 0.08, 0.6, 0.9);
                add(0.78, 1.15 + l + jitter(0.3), 0.14, 0.18, 0.4, 0.9);
            }
            SideCut::CurledIn => {
                add(0.86, 1.1 + l, 0.15, 0.34, 0.6, 0.8);
                add(0.76, 0.94 + l, 0.16, 0.36, 0.5, 0.85);
            }
            SideCut::Flipped => {
                add(1.4, 0.85 + l, 0.14, -0.3, 0.5, 0.9);
                add(1.18, 0.72 + l, 0.14, -0.16, 0.5, 0.9);
                add(0.78, 0.66 + l, 0.12, 0.18, 0.4, 0.9);
            }
            SideCut::Wavy => {
                add(1.2, 2.3, 0.17, 0.05, 0.8, 0.9);
                add(1.02, 1.9 + l, 0.16, 0.08, 0.6, 0.9);
                add(0.82, 1.1 + l + jitter(0.3), 0.12, 0.16, 0.4, 0.9);
            }
            SideCut::Rough => {
                add(1.2, 0.72 + l + jitter(0.1), 0.14, -0.02, 0.4, 1.0);
                add(1.0, 0.62 + l + jitter(0.12), 0.14, 0.08, 0.4, 1.0);
                add(0.76, 0.5 + l + jitter(0.15), 0.12, 0.2, 0.4, 1.0);
            }
            SideCut::Burns => {
                add(1.02, 0.34 + 0.6 * l, 0.13, 0.04, 0.4, 1.0);
                add(0.92, 0.2 + 0.6 * l, 0.1, 0.08, 0.4, 1.0);
            }
            SideCut::Ringlet => add(1.05, 1.75 + l, 0.14, 0.1, 0.8, 0.8),
        }
        if matches!(cut, SideCut::Wavy | SideCut::Ringlet) {
            let (height, number) = if cut == SideCut::Wavy { (0.07, 2.0) } else { (0.09, 3.5) };
            let phase = stream.unit();
            locks = locks.into_iter().map(|lock| lock.with_wave(height, number, phase)).collect();
        }
        locks
    }
}
