//! Points and shapes, before anything is drawn: shapes are lists of Bézier segments that can be
//! bent by any map of the plane, which is how a head is turned.

use std::f64::consts::PI;
use std::ops::{Add, Mul, Sub};

/// A point or vector of the plane; x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) struct Vec2 {
    pub x: f32,
    pub y: f32,
}

/// A point or vector.
pub(super) const fn v(x: f32, y: f32) -> Vec2 {
    Vec2 { x, y }
}

impl Vec2 {
    pub fn length(self) -> f32 {
        (self.x * self.x + self.y * self.y).sqrt()
    }

    /// The vector turned a quarter to the right hand of its direction.
    pub fn perpendicular(self) -> Vec2 {
        v(-self.y, self.x)
    }

    /// The vector at length 1; zero stays zero.
    pub fn normalized(self) -> Vec2 {
        let length = self.length();
        if length > 1e-6 { self * (1.0 / length) } else { v(0.0, 0.0) }
    }

    pub fn lerp(self, other: Vec2, t: f32) -> Vec2 {
        self + (other - self) * t
    }
}

impl Add for Vec2 {
    type Output = Vec2;
    fn add(self, other: Vec2) -> Vec2 {
        v(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Vec2 {
    type Output = Vec2;
    fn sub(self, other: Vec2) -> Vec2 {
        v(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Vec2 {
    type Output = Vec2;
    fn mul(self, factor: f32) -> Vec2 {
        v(self.x * factor, self.y * factor)
    }
}

/// `a` at t = 0, `b` at t = 1.
pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Sine and cosine of `angle` in radians, by way of f64 so that platforms agree.
pub(super) fn sin_cos(angle: f32) -> (f32, f32) {
    let (sin, cos) = f64::from(angle).sin_cos();
    (sin as f32, cos as f32)
}

/// The sine of `turns` full turns.
pub(super) fn sine_of_turns(turns: f32) -> f32 {
    (f64::from(turns) * 2.0 * PI).sin() as f32
}

/// `base` to the power of `exponent`, by way of f64 so that platforms agree.
pub(super) fn power(base: f32, exponent: f32) -> f32 {
    f64::from(base.max(0.0)).powf(f64::from(exponent)) as f32
}

/// One step of a shape's outline.
#[derive(Clone, Copy, Debug)]
pub(super) enum Segment {
    Move(Vec2),
    Line(Vec2),
    Cubic(Vec2, Vec2, Vec2),
    Close,
}

/// An outline: straight and cubic segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub segments: Vec<Segment>,
    pen: Vec2,
}

impl Shape {
    pub fn new() -> Self {
        Self::default()
    }

    /// A smooth closed curve through `points`.
    pub fn smooth_closed(points: &[Vec2]) -> Self {
        let n = points.len();
        let mut shape = Shape::new().move_to(points[0]);
        for i in 0..n {
            let [a, b, c, d] =
                [points[(i + n - 1) % n], points[i], points[(i + 1) % n], points[(i + 2) % n]];
            shape = shape.cubic_to(b + (c - a) * (1.0 / 6.0), c - (d - b) * (1.0 / 6.0), c);
        }
        shape.close()
    }

    /// A smooth open curve through `points`.
    pub fn smooth_open(points: &[Vec2]) -> Self {
        Shape::new().move_to(points[0]).through(&points[1..])
    }

    pub fn polygon(points: &[Vec2]) -> Self {
        let shape = Shape::new().move_to(points[0]);
        points[1..].iter().fold(shape, |shape, &point| shape.line_to(point)).close()
    }

    pub fn rectangle(from: Vec2, to: Vec2) -> Self {
        Shape::polygon(&[from, v(to.x, from.y), to, v(from.x, to.y)])
    }

    pub fn ellipse(centre: Vec2, radius_x: f32, radius_y: f32) -> Self {
        /// Length of the handles that make a cubic a quarter of a circle.
        const HANDLE: f32 = 0.552_284_8;
        let at = |x: f32, y: f32| centre + v(x * radius_x, y * radius_y);
        Shape::new()
            .move_to(at(1.0, 0.0))
            .cubic_to(at(1.0, HANDLE), at(HANDLE, 1.0), at(0.0, 1.0))
            .cubic_to(at(-HANDLE, 1.0), at(-1.0, HANDLE), at(-1.0, 0.0))
            .cubic_to(at(-1.0, -HANDLE), at(-HANDLE, -1.0), at(0.0, -1.0))
            .cubic_to(at(HANDLE, -1.0), at(1.0, -HANDLE), at(1.0, 0.0))
            .close()
    }

    pub fn move_to(mut self, point: Vec2) -> Self {
        self.pen = point;
        self.segments.push(Segment::Move(point));
        self
    }

    pub fn line_to(mut self, point: Vec2) -> Self {
        self.pen = point;
        self.segments.push(Segment::Line(point));
        self
    }

    pub fn cubic_to(mut self, control1: Vec2, control2: Vec2, point: Vec2) -> Self {
        self.pen = point;
        self.segments.push(Segment::Cubic(control1, control2, point));
        self
    }

    /// A quadratic curve with one control point.
    pub fn bend_to(self, control: Vec2, point: Vec2) -> Self {
        let start = self.pen;
        self.cubic_to(start.lerp(control, 2.0 / 3.0), point.lerp(control, 2.0 / 3.0), point)
    }

    /// Goes on smoothly (Catmull-Rom) through `points`.
    pub fn through(mut self, points: &[Vec2]) -> Self {
        let mut all = vec![self.pen];
        all.extend_from_slice(points);
        let last = all.len() - 1;
        for i in 0..last {
            let [a, b, c, d] =
                [all[i.saturating_sub(1)], all[i], all[i + 1], all[(i + 2).min(last)]];
            self = self.cubic_to(b + (c - a) * (1.0 / 6.0), c - (d - b) * (1.0 / 6.0), c);
        }
        self
    }

    pub fn close(mut self) -> Self {
        self.segments.push(Segment::Close);
        self
    }

    /// Both outlines as one shape.
    pub fn join(mut self, other: Shape) -> Self {
        self.segments.extend(other.segments);
        self
    }

    /// The shape with every point moved by `map`.
    pub fn map(&self, map: impl Fn(Vec2) -> Vec2) -> Self {
        let segments = self
            .segments
            .iter()
            .map(|&segment| match segment {
                Segment::Move(p) => Segment::Move(map(p)),
                Segment::Line(p) => Segment::Line(map(p)),
                Segment::Cubic(a, b, c) => Segment::Cubic(map(a), map(b), map(c)),
                Segment::Close => Segment::Close,
            })
            .collect();
        Shape { segments, pen: map(self.pen) }
    }

    pub fn shifted(&self, by: Vec2) -> Self {
        self.map(|point| point + by)
    }
}

/// A curve through `points` that swells to `half_width` in its middle and ends in points: a
/// brush stroke. `swell` moves the thickest place from the start (0) to the end (1).
pub(super) fn brush(points: &[Vec2], half_width: f32, swell: f32) -> Shape {
    let last = points.len() - 1;
    let offset = |i: usize, side: f32| {
        let along = points[(i + 1).min(last)] - points[i.saturating_sub(1)];
        let t = i as f32 / last as f32;
        let bump =
            if t < swell { t / swell.max(1e-3) } else { (1.0 - t) / (1.0 - swell).max(1e-3) };
        points[i] + along.normalized().perpendicular() * (half_width * power(bump, 0.6) * side)
    };
    let out: Vec<Vec2> = (1..=last).map(|i| offset(i, 1.0)).collect();
    let back: Vec<Vec2> = (0..last).rev().map(|i| offset(i, -1.0)).collect();
    Shape::new().move_to(points[0]).through(&out).through(&back).close()
}
