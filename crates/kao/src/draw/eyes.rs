//! Eyes: lids, lashes, iris, pupil and lights; the part of the picture that is looked at first.

use super::canvas::{Canvas, Ink};
use super::colour::Colour;
use super::expression::{Expression, Lids};
use super::geometry::{Shape, Vec2, brush, lerp, v};
use super::head::Head;
use super::palette::{IrisInk, Palette};
use super::random::Stream;

/// The form of a pair of eyes. Within an eye, u runs from −1 (inner corner) to 1 (outer corner)
/// and v from −1 (top) to 1 (bottom).
#[derive(Clone, Debug)]
pub(super) struct EyeForm {
    /// Distance of the centre from the middle of the face.
    pub spread: f32,
    pub y: f32,
    pub half_width: f32,
    pub half_height: f32,
    /// How much higher the outer corner lies than the inner one, in half heights.
    pub slant: f32,
    /// 0: the upper lid is a pointed arch, 1: it is flat and wide.
    pub boxy: f32,
    /// Half width of the iris, in half widths of the eye.
    pub iris: f32,
    /// Thickness of the upper lash line, in half heights.
    pub lash: f32,
    /// Number of separate lashes at the outer corner.
    pub lashes: usize,
    pub crease: bool,
    pub lower_lash: f32,
    pub pupil: PupilKind,
    pub highlights: HighlightKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PupilKind {
    Round,
    Tall,
    Slit,
    Soft,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum HighlightKind {
    /// One large, one small.
    Pair,
    /// Three of falling size.
    Three,
    /// One tall and slanted.
    Tall,
    /// One small.
    Small,
}

impl EyeForm {
    pub fn sample(stream: &mut Stream, maturity: f32, masculine: f32) -> Self {
        let half_width = stream.around(0.265, 0.02);
        let height = lerp(0.3, 0.17, maturity) + stream.around(0.0, 0.025) - 0.035 * masculine;
        let half_height = height.clamp(0.12, 0.34);
        EyeForm {
            spread: stream.around(0.51, 0.018),
            y: stream.around(0.08, 0.025),
            half_width,
            half_height,
            slant: stream.around(0.1 + 0.1 * masculine, 0.16),
            boxy: stream.unit(),
            iris: (stream.around(0.75, 0.04) - 0.05 * maturity - 0.04 * masculine).min(0.82),
            lash: stream.range(0.2, 0.36) * (1.0 - 0.25 * masculine),
            lashes: if masculine > 0.0 { 0 } else { stream.count(0, 2) },
            crease: stream.chance(0.7),
            lower_lash: stream.range(0.3, 1.0),
            pupil: stream.weighted(&[
                (PupilKind::Round, 3.0),
                (PupilKind::Tall, 3.0),
                (PupilKind::Slit, 0.25),
                (PupilKind::Soft, 2.0),
            ]),
            highlights: stream.weighted(&[
                (HighlightKind::Pair, 4.0),
                (HighlightKind::Three, 2.0),
                (HighlightKind::Tall, 2.0),
                (HighlightKind::Small, 1.0),
            ]),
        }
    }
}

/// One eye in its place: maps (u, v) to the turned face.
struct Placed<'a> {
    head: &'a Head,
    form: &'a EyeForm,
    side: f32,
}

impl Placed<'_> {
    fn at(&self, p: Vec2) -> Vec2 {
        let f = self.form;
        let slant = -0.5 * f.slant * p.x * f.half_height;
        self.head
            .face(v(self.side * (f.spread + f.half_width * p.x), f.y + f.half_height * p.y + slant))
    }

    fn map(&self, shape: &Shape) -> Shape {
        shape.map(|p| self.at(p))
    }
}

/// v of the corners, where a closing lid comes to rest.
const REST: f32 = 0.42;

/// The tallest iris, in half heights of the eye.
const IRIS_HEIGHT: f32 = 1.06;
/// How much taller than round an iris is drawn where there is room.
const IRIS_TALLNESS: f32 = 1.62;

/// The upper lid from the inner to the outer corner, opened by `open`.
fn upper_lid(form: &EyeForm, open: f32) -> Vec<Vec2> {
    let b = form.boxy;
    let points = [
        v(-1.0, 0.34),
        v(-0.8, lerp(-0.2, -0.42, b)),
        v(-0.42, lerp(-0.78, -0.88, b)),
        v(0.05, -1.0),
        v(0.5, lerp(-0.8, -0.92, b)),
        v(0.84, lerp(-0.34, -0.52, b)),
        v(1.03, 0.12),
    ];
    points.iter().map(|p| v(p.x, lerp(REST, p.y, open))).collect()
}

/// The lower lid from the outer to the inner corner, raised by `squint`.
fn lower_lid(form: &EyeForm, squint: f32) -> Vec<Vec2> {
    let b = form.boxy;
    let points = [
        v(1.03, 0.12),
        v(0.86, lerp(0.58, 0.7, b)),
        v(0.4, 0.95),
        v(-0.1, 1.0),
        v(-0.55, lerp(0.86, 0.94, b)),
        v(-0.86, lerp(0.56, 0.66, b)),
        v(-1.0, 0.34),
    ];
    points.iter().map(|p| v(p.x, lerp(p.y, p.y.min(0.62), squint))).collect()
}

/// Both eyes.
pub(super) fn paint(
    canvas: &mut Canvas,
    head: &Head,
    form: &EyeForm,
    expression: &Expression,
    palette: &Palette,
) {
    for (index, side) in [(0, -1.0), (1, 1.0)] {
        let eye = Placed { head, form, side };
        match expression.lids[index] {
            Lids::Open(open) => {
                paint_open(canvas, &eye, open, expression, &palette.irises[index], palette);
            }
            Lids::Laughing => paint_closed(canvas, &eye, palette, -1.0),
            Lids::Resting => paint_closed(canvas, &eye, palette, 1.0),
        }
    }
}

/// The upper lash lines alone, faintly: as anime lets them show through the fringe.
pub(super) fn paint_through_hair(
    canvas: &mut Canvas,
    head: &Head,
    form: &EyeForm,
    expression: &Expression,
    palette: &Palette,
    opacity: f32,
) {
    for (index, side) in [(0, -1.0), (1, 1.0)] {
        let eye = Placed { head, form, side };
        if let Lids::Open(open) = expression.lids[index] {
            canvas.fill(&eye.map(&lash_line(form, open)), palette.lash.alpha(opacity));
        }
    }
}

/// The thick line of the upper lid with its wing.
fn lash_line(form: &EyeForm, open: f32) -> Shape {
    let lid = upper_lid(form, open);
    let thickness = form.lash;
    let factors = [0.25, 0.55, 0.85, 1.0, 1.1, 1.25, 1.0];
    let above: Vec<Vec2> = lid
        .iter()
        .zip(factors)
        .map(|(p, factor)| v(p.x * (1.0 + 0.06 * factor), p.y - thickness * factor))
        .collect();
    let wing = v(1.24, lid[6].y - 0.02 - thickness * 0.9);
    let mut back: Vec<Vec2> = above[..6].iter().rev().copied().collect();
    back.push(v(-1.08, lid[0].y + 0.05));
    Shape::new()
        .move_to(lid[0])
        .through(&lid[1..])
        .line_to(v(1.06, 0.3 * open + REST * (1.0 - open)))
        .line_to(wing)
        .line_to(above[5])
        .through(&back[1..])
        .close()
}

fn paint_open(
    canvas: &mut Canvas,
    eye: &Placed<'_>,
    open: f32,
    expression: &Expression,
    ink: &IrisInk,
    palette: &Palette,
) {
    let form = eye.form;
    let lid = upper_lid(form, open);
    let lower = lower_lid(form, expression.squint);
    let ball = Shape::new().move_to(lid[0]).through(&lid[1..]).through(&lower[1..]).close();
    let ball = eye.map(&ball);
    let skin = &palette.skin;

    canvas.fill(&ball, Colour::WHITE.mix(skin.base, 0.35));
    canvas.clip(&ball);
    paint_iris(canvas, eye, expression, ink);
    // The shadow of the upper lid on the ball.
    let depth = 0.3 + 0.5 * form.lash;
    let mut shadow: Vec<Vec2> = lid.iter().map(|p| v(p.x, p.y + depth)).collect();
    shadow.reverse();
    let shadow = Shape::new()
        .move_to(v(-1.3, -1.4))
        .line_to(v(1.3, -1.4))
        .line_to(v(1.3, shadow[0].y))
        .through(&shadow)
        .line_to(v(-1.3, -1.4))
        .close();
    canvas.shade(&eye.map(&shadow), ink.rim.mix(Colour::WHITE, 0.58));
    paint_highlights(canvas, eye, expression);
    canvas.unclip();

    paint_lower_lash(canvas, eye, &lower, palette);
    canvas.fill(&eye.map(&lash_line(form, open)), palette.lash);
    paint_lashes(canvas, eye, &lid, palette);
    if form.crease {
        let points: Vec<Vec2> = lid[1..6]
            .iter()
            .map(|p| v(p.x * 1.02, p.y - form.lash * 1.2 - 0.2 - 0.05 * p.x))
            .collect();
        canvas.fill(&eye.map(&brush(&points, 0.028, 0.6)), skin.line.alpha(0.8));
    }
    if expression.tears {
        let y = lower[4].y;
        let tear = Shape::ellipse(v(0.75, y * 0.75), 0.16, 0.2);
        canvas.fill(&eye.map(&tear), Colour::WHITE.mix(ink.glint, 0.35).alpha(0.85));
    }
}

fn iris_centre(expression: &Expression, side: f32) -> Vec2 {
    const FREE_WAY: f32 = 0.2;
    v(-0.05 + side * expression.gaze.0 * FREE_WAY, 0.05 + expression.gaze.1 * 0.2)
}

fn paint_iris(canvas: &mut Canvas, eye: &Placed<'_>, expression: &Expression, ink: &IrisInk) {
    let form = eye.form;
    let centre = iris_centre(expression, eye.side);
    let rx = form.iris * expression.iris;
    // Irises are drawn taller than round, but not as tall as a large eye.
    let round = rx * form.half_width / form.half_height;
    let ry = IRIS_HEIGHT.min(round * IRIS_TALLNESS)
        * if expression.iris < 1.0 { expression.iris } else { 1.0 };
    let disc = |fx: f32, fy: f32, dx: f32, dy: f32| {
        eye.map(&Shape::ellipse(centre + v(dx * rx, dy * ry), rx * fx, ry * fy))
    };
    let from = eye.at(centre - v(0.0, ry));
    let to = eye.at(centre + v(0.0, ry));
    canvas.fill(&disc(1.0, 1.0, 0.0, 0.0), ink.rim);
    canvas.fill(
        &disc(0.88, 0.92, 0.0, 0.0),
        Ink::Linear(
            from,
            to,
            vec![(0.0, ink.top), (0.3, ink.top), (0.62, ink.middle), (1.0, ink.bottom)],
        ),
    );
    match form.pupil {
        PupilKind::Round => canvas.fill(&disc(0.46, 0.42, 0.0, -0.02), ink.pupil),
        PupilKind::Tall => canvas.fill(&disc(0.4, 0.54, 0.0, -0.05), ink.pupil),
        PupilKind::Slit => canvas.fill(&disc(0.17, 0.66, 0.0, 0.0), ink.pupil),
        PupilKind::Soft => {
            canvas.fill(&disc(0.56, 0.56, 0.0, -0.05), ink.top.alpha(0.7));
            canvas.fill(&disc(0.34, 0.36, 0.0, -0.05), ink.pupil.alpha(0.85));
        }
    }
    // Light gathered in the lower half.
    canvas.fill(&disc(0.6, 0.3, 0.0, 0.58), ink.glint.alpha(0.55));
    canvas.fill(&disc(0.36, 0.14, 0.0, 0.68), ink.glint.alpha(0.8));
}

fn paint_highlights(canvas: &mut Canvas, eye: &Placed<'_>, expression: &Expression) {
    let form = eye.form;
    let centre = iris_centre(expression, eye.side);
    let rx = form.iris;
    let ry = (rx * form.half_width / form.half_height * IRIS_TALLNESS).min(IRIS_HEIGHT);
    // Towards the light, in u (which runs outward on either side).
    let toward = eye.head.light * eye.side;
    let mut spot = |x: f32, y: f32, w: f32, h: f32, opacity: f32| {
        let at = centre + v(toward * x * rx, y * ry);
        canvas.fill(&eye.map(&Shape::ellipse(at, w * rx, h * ry)), Colour::WHITE.alpha(opacity));
    };
    match form.highlights {
        HighlightKind::Pair => {
            spot(0.36, -0.4, 0.32, 0.27, 1.0);
            spot(-0.4, 0.42, 0.16, 0.13, 0.9);
        }
        HighlightKind::Three => {
            spot(0.34, -0.38, 0.3, 0.26, 1.0);
            spot(-0.36, 0.4, 0.17, 0.13, 0.95);
            spot(-0.44, -0.2, 0.11, 0.09, 0.9);
        }
        HighlightKind::Tall => {
            spot(0.4, -0.36, 0.22, 0.36, 1.0);
            spot(-0.42, 0.34, 0.13, 0.18, 0.85);
        }
        HighlightKind::Small => spot(0.3, -0.32, 0.24, 0.2, 1.0),
    }
}

fn paint_lower_lash(canvas: &mut Canvas, eye: &Placed<'_>, lower: &[Vec2], palette: &Palette) {
    let strength = eye.form.lower_lash;
    let outer = brush(&lower[..5], 0.05, 0.25);
    canvas.fill(
        &eye.map(&outer),
        palette.lash.mix(palette.skin.line, 0.3).alpha(0.35 + 0.6 * strength),
    );
    let inner = brush(&lower[3..], 0.03, 0.5);
    canvas.fill(&eye.map(&inner), palette.skin.line.alpha(0.5));
}

fn paint_lashes(canvas: &mut Canvas, eye: &Placed<'_>, lid: &[Vec2], palette: &Palette) {
    let thickness = eye.form.lash;
    for k in 0..eye.form.lashes {
        let k = k as f32;
        let root = lid[6].lerp(lid[4], k / 3.0) + v(0.04, -0.4 * thickness);
        let tip = root + v(0.32 - 0.05 * k, -0.2 - 0.1 * k);
        let base = v(0.05, 0.13);
        let lash = Shape::new()
            .move_to(root - base)
            .bend_to(root.lerp(tip, 0.5) + v(0.05, 0.02), tip)
            .bend_to(root.lerp(tip, 0.4) + v(0.1, 0.1), root + base)
            .close();
        canvas.fill(&eye.map(&lash), palette.lash);
    }
}

/// A closed eye: an arc with lashes; `bow` is −1 for the laughing arc, 1 for the resting one.
fn paint_closed(canvas: &mut Canvas, eye: &Placed<'_>, palette: &Palette, bow: f32) {
    let form = eye.form;
    // Drawn in units of width, so that large eyes do not make tall arcs.
    let rise = 0.34 * form.half_width / form.half_height;
    let thick = 0.07 * form.half_width / form.half_height + 0.15 * form.lash;
    let arc = |lift: f32| -> Vec<Vec2> {
        [-1.0f32, -0.62, -0.2, 0.25, 0.68, 1.06]
            .iter()
            .map(|&u| v(u, 0.45 + bow * rise * (1.0 - 1.7 * u * u) - lift))
            .collect()
    };
    let line = brush(&arc(0.0), thick, 0.6);
    canvas.fill(&eye.map(&line), palette.lash);
    let end = arc(0.0)[5];
    for k in 0..2 {
        let root = end - v(0.1 + 0.16 * k as f32, -bow * 0.1 * k as f32);
        let tip = root + v(0.3, 0.1 + 0.1 * bow - 0.12 * k as f32);
        canvas.fill(&eye.map(&brush(&[root, root.lerp(tip, 0.5), tip], 0.04, 0.15)), palette.lash);
    }
    if form.crease {
        let crease = brush(&arc(0.42)[1..5], 0.03, 0.6);
        canvas.fill(&eye.map(&crease), palette.skin.line.alpha(0.5));
    }
}
