//! The surface that shapes are drawn on: tiny-skia behind the few verbs the painters need.

use tiny_skia::{
    BlendMode, Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Mask, Paint, Path,
    PathBuilder, Pixmap, Point, RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

use super::Face;
use super::colour::Colour;
use super::geometry::{Segment, Shape, Vec2};

/// What a shape is filled with.
#[derive(Clone, Debug)]
pub(super) enum Ink {
    Flat(Colour),
    /// From one point to another, with colours at positions in `[0, 1]`.
    Linear(Vec2, Vec2, Vec<(f32, Colour)>),
    /// From a centre to a radius.
    Radial(Vec2, f32, Vec<(f32, Colour)>),
}

impl From<Colour> for Ink {
    fn from(colour: Colour) -> Self {
        Ink::Flat(colour)
    }
}

/// How the coordinates of the painters lie in the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Where the origin lies, in fractions of the picture.
    pub origin: Vec2,
    /// Length of a unit, in fractions of the picture's side.
    pub unit: f32,
    /// Turn to the right, in radians.
    pub angle: f32,
}

/// The whole picture from (0, 0) to (1, 1).
pub(super) const FRAME: View = View { origin: Vec2 { x: 0.0, y: 0.0 }, unit: 1.0, angle: 0.0 };

/// A square surface, drawn larger than the picture and reduced at the end.
pub(super) struct Canvas {
    pixmap: Pixmap,
    transform: Transform,
    clip: Option<Mask>,
}

impl Canvas {
    /// A white canvas of `side`×`side` pixels; `None` when there is no memory for it.
    pub fn new(side: u32) -> Option<Self> {
        let mut pixmap = Pixmap::new(side, side)?;
        pixmap.fill(Color::WHITE);
        let mut canvas = Canvas { pixmap, transform: Transform::identity(), clip: None };
        canvas.look(FRAME);
        Some(canvas)
    }

    /// From now on, coordinates are those of `view`.
    pub fn look(&mut self, view: View) {
        let side = self.pixmap.width() as f32;
        let (sin, cos) = super::geometry::sin_cos(view.angle);
        let unit = view.unit * side;
        self.transform = Transform::from_row(
            cos * unit,
            sin * unit,
            -sin * unit,
            cos * unit,
            view.origin.x * side,
            view.origin.y * side,
        );
    }

    /// Draws only within `shape`, until [`unclip`](Self::unclip).
    pub fn clip(&mut self, shape: &Shape) {
        let side = self.pixmap.width();
        if let (Some(path), Some(mut mask)) = (path(shape), Mask::new(side, side)) {
            mask.fill_path(&path, FillRule::Winding, true, self.transform);
            self.clip = Some(mask);
        }
    }

    pub fn unclip(&mut self) {
        self.clip = None;
    }

    /// Fills `shape`.
    pub fn fill(&mut self, shape: &Shape, ink: impl Into<Ink>) {
        self.fill_with(shape, &ink.into(), BlendMode::SourceOver);
    }

    /// Multiplies what lies within `shape` by the ink: a shadow.
    pub fn shade(&mut self, shape: &Shape, ink: impl Into<Ink>) {
        self.fill_with(shape, &ink.into(), BlendMode::Multiply);
    }

    fn fill_with(&mut self, shape: &Shape, ink: &Ink, blend_mode: BlendMode) {
        let (Some(path), Some(shader)) = (path(shape), shader(ink)) else { return };
        let paint = Paint { shader, blend_mode, anti_alias: true, ..Paint::default() };
        self.pixmap.fill_path(&path, &paint, FillRule::Winding, self.transform, self.clip.as_ref());
    }

    /// Draws the outline of `shape`, `width` wide.
    pub fn stroke(&mut self, shape: &Shape, ink: impl Into<Ink>, width: f32) {
        let (Some(path), Some(shader)) = (path(shape), shader(&ink.into())) else { return };
        let paint = Paint { shader, anti_alias: true, ..Paint::default() };
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        self.pixmap.stroke_path(&path, &paint, &stroke, self.transform, self.clip.as_ref());
    }

    /// The picture, reduced by `factor` with a box filter.
    pub fn reduced(&self, factor: u32) -> Face {
        let side = self.pixmap.width() as usize;
        let factor = factor as usize;
        let pixels = self.pixmap.pixels();
        let count = (factor * factor) as u32;
        let n_across = side / factor;
        let mut bytes = Vec::with_capacity(n_across * n_across * 3);
        for (y, x) in (0..n_across).flat_map(|y| (0..n_across).map(move |x| (y, x))) {
            let (left, top) = (x * factor, y * factor);
            let mut sum = [count / 2; 3];
            for row in top..top + factor {
                for pixel in &pixels[row * side + left..row * side + left + factor] {
                    sum[0] += u32::from(pixel.red());
                    sum[1] += u32::from(pixel.green());
                    sum[2] += u32::from(pixel.blue());
                }
            }
            bytes.extend(sum.map(|total| (total / count) as u8));
        }
        Face { side: n_across as u32, bytes }
    }
}

fn path(shape: &Shape) -> Option<Path> {
    let mut builder = PathBuilder::with_capacity(shape.segments.len(), shape.segments.len() * 3);
    for segment in &shape.segments {
        match *segment {
            Segment::Move(p) => builder.move_to(p.x, p.y),
            Segment::Line(p) => builder.line_to(p.x, p.y),
            Segment::Cubic(a, b, c) => builder.cubic_to(a.x, a.y, b.x, b.y, c.x, c.y),
            Segment::Close => builder.close(),
        }
    }
    builder.finish()
}

fn shader(ink: &Ink) -> Option<Shader<'static>> {
    let stops = |stops: &[(f32, Colour)]| {
        stops.iter().map(|&(at, colour)| GradientStop::new(at, color(colour))).collect::<Vec<_>>()
    };
    let point = |p: Vec2| Point::from_xy(p.x, p.y);
    let pad = SpreadMode::Pad;
    match ink {
        Ink::Flat(colour) => Some(Shader::SolidColor(color(*colour))),
        Ink::Linear(from, to, colours) => LinearGradient::new(
            point(*from),
            point(*to),
            stops(colours),
            pad,
            Transform::identity(),
        ),
        Ink::Radial(centre, radius, colours) => RadialGradient::new(
            point(*centre),
            0.0,
            point(*centre),
            *radius,
            stops(colours),
            pad,
            Transform::identity(),
        ),
    }
}

fn color(colour: Colour) -> Color {
    let [r, g, b, a] = [colour.r, colour.g, colour.b, colour.a].map(|x| x.clamp(0.0, 1.0));
    Color::from_rgba(r, g, b, a).unwrap_or(Color::WHITE)
}
