//! The head in its own coordinates: the origin lies between the eyes, a unit is half the width of
//! the face, and everything is drawn as seen from the front, then bent by [`Head::face`] and
//! [`Head::hair`] to the way the head looks.

use super::canvas::{Canvas, Ink};
use super::geometry::{Shape, Vec2, brush, lerp, sin_cos, smoothstep, v};
use super::palette::Skin;
use super::random::Stream;

/// Radius of the cylinder that the features lie on; wider than the face, because drawn faces are
/// flatter than real ones.
const FACE_RADIUS: f32 = 1.3;
/// Radius of the skull with its hair.
const HAIR_RADIUS: f32 = 1.55;
/// How far before the axis of the neck a point at depth 0 lies.
const PIVOT_DEPTH: f32 = 0.62;
/// How far the hair's cylinder lies behind that of the face.
const HAIR_DEPTH: f32 = -0.12;
/// The depth that stays where it is when the head nods.
const NOD_DEPTH: f32 = 0.6;
/// Turn of the head at `turn` = 1, in radians.
const FULL_TURN: f32 = 0.62;

/// How far the chin moves at full turn.
const CHIN_SHIFT: f32 = 0.36;
/// How far the near side of the skull comes into view at full turn.
const NEAR_SIDE: f32 = 0.5;

/// Widths of lines, in units of the head.
pub(super) const LINE: f32 = 0.018;

/// Where the head looks, and the form of the face.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// −1 (to the left of the picture) to 1.
    pub turn: f32,
    /// Up (negative) or down, in radians.
    pub pitch: f32,
    /// y of the chin.
    pub chin: f32,
    /// Width of the lower jaw: 0 pointed, 1 square.
    pub jaw: f32,
    /// Fullness of the cheeks.
    pub cheek: f32,
    /// −1 or 1: the side the light comes from.
    pub light: f32,
    pub nose: NoseKind,
    /// y of nose and mouth.
    pub nose_y: f32,
    pub mouth_y: f32,
    /// Opacity of the blush.
    pub blush: f32,
    /// Short strokes over the blush.
    pub blush_lines: bool,
    pub elf_ears: bool,
}

/// How little of a nose is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NoseKind {
    Dot,
    Stroke,
    Shadow,
    Corner,
}

impl Head {
    /// `maturity` is 0 for a child's face and 1 for a grown one.
    pub fn sample(stream: &mut Stream, maturity: f32, masculine: f32) -> Self {
        let chin = lerp(1.01, 1.21, maturity) + stream.around(0.0, 0.03) + 0.08 * masculine;
        let mouth_y = chin * stream.range(0.66, 0.72);
        Head {
            turn: (stream.bell() * 0.42).clamp(-1.0, 1.0),
            pitch: stream.around(0.02, 0.05),
            chin,
            jaw: (stream.range(0.05, 0.6) + 0.4 * masculine).min(1.0),
            cheek: stream.range(0.2, 1.0) * (1.0 - 0.6 * maturity),
            light: stream.sign(),
            nose: stream.weighted(&[
                (NoseKind::Dot, 3.0),
                (NoseKind::Stroke, 3.0),
                (NoseKind::Shadow, 2.5),
                (NoseKind::Corner, 2.0),
            ]),
            nose_y: lerp(0.4, 0.48, maturity) + stream.around(0.0, 0.02),
            mouth_y,
            blush: stream.range(0.0, 0.65) * (1.0 - 0.7 * masculine),
            blush_lines: stream.chance(0.2),
            elf_ears: stream.chance(0.03),
        }
    }

    /// Where a point of the frontal face lies on the turned head.
    pub fn face(&self, p: Vec2) -> Vec2 {
        self.project(p, FACE_RADIUS, 0.0)
    }

    /// Where a point of the frontal hair lies on the turned head.
    pub fn hair(&self, p: Vec2) -> Vec2 {
        let there = self.project(p, HAIR_RADIUS, HAIR_DEPTH);
        // On the near side the head goes on behind the face.
        let near = smoothstep(0.45, 1.2, -p.x * self.turn.signum());
        v(there.x - NEAR_SIDE * self.turn * near, there.y)
    }

    /// Where a point behind the head lies.
    pub fn behind(&self, p: Vec2) -> Vec2 {
        p + v(-0.16 * self.turn, -0.05 * self.pitch)
    }

    fn project(&self, p: Vec2, radius: f32, depth: f32) -> Vec2 {
        let (sin, cos) = sin_cos(self.turn * FULL_TURN);
        let z = (radius * radius - p.x * p.x).max(0.0).sqrt() - PIVOT_DEPTH + depth;
        let (sin_pitch, cos_pitch) = sin_cos(self.pitch);
        v(p.x * cos + z * sin, p.y * cos_pitch + (z - NOD_DEPTH) * sin_pitch)
    }

    /// The contour of the face, closed over the top of the head.
    pub fn contour(&self) -> Shape {
        Shape::smooth_closed(&self.contour_points())
    }

    fn contour_points(&self) -> Vec<Vec2> {
        let t = self.turn;
        let far = t.abs();
        // Seen with the far side to the right; mirrored below when it is not.
        let chin_x = CHIN_SHIFT * far;
        let jaw_x = lerp(0.4, 0.55, self.jaw);
        let chin_width = lerp(0.155, 0.22, self.jaw);
        let c = self.chin;
        let puff = 0.035 * self.cheek;
        let points = [
            v(0.05 * far, -1.4),
            v(0.8 + 0.08 * far, -1.05),
            v(0.975 + 0.02 * far, -0.5),
            v(0.955 - 0.01 * far, -0.05),
            v(0.895 + puff + 0.05 * far, 0.3),
            v(lerp(0.75, 0.835, far) + puff, 0.55 * c),
            v(jaw_x + 0.13 * far, 0.81 * c),
            v(chin_x + chin_width, 0.968 * c),
            v(chin_x, c),
            v(chin_x - chin_width * (1.0 + 0.4 * far), lerp(0.968, 0.955, far) * c),
            v(-jaw_x + 0.1 * far, lerp(0.81, 0.83, far) * c),
            v(-0.75 - puff + 0.02 * far, 0.55 * c),
            v(-0.895 - puff, 0.3),
            v(-0.955 - 0.03 * far, -0.05),
            v(-0.975 - 0.05 * far, -0.5),
            v(-0.8 - 0.06 * far, -1.05),
        ];
        let mirror = if t < 0.0 { -1.0 } else { 1.0 };
        let lift = self.pitch * 0.5;
        points.iter().map(|p| v(p.x * mirror, p.y + lift * smoothstep(0.0, 1.0, p.y))).collect()
    }

    /// The middle of the chin.
    pub fn chin_point(&self) -> Vec2 {
        v(CHIN_SHIFT * self.turn, self.chin + self.pitch * 0.5)
    }
}

/// Neck and shoulders of skin, to be drawn before the clothes.
pub(super) fn paint_neck(canvas: &mut Canvas, head: &Head, skin: &Skin, masculine: f32) {
    let width = lerp(0.36, 0.48, masculine);
    let x = 0.1 * head.turn;
    let top = head.chin - 0.5;
    let base = head.chin + 0.42;
    let neck = Shape::new()
        .move_to(v(x - width, top))
        .through(&[v(x - width, top + 0.4), v(x - width * 1.05, base - 0.12)])
        .bend_to(v(x - width * 1.2, base + 0.1), v(x - 1.2, base + 0.32))
        .line_to(v(x - 1.2, base + 3.0))
        .line_to(v(x + 1.2, base + 3.0))
        .line_to(v(x + 1.2, base + 0.32))
        .bend_to(v(x + width * 1.2, base + 0.1), v(x + width * 1.05, base - 0.12))
        .through(&[v(x + width, top + 0.4), v(x + width, top)])
        .close();
    canvas.fill(&neck, skin.base);
    canvas.clip(&neck);
    // The shadow of the chin.
    let side = -0.12 * head.light;
    let c = head.chin_point();
    let shadow = Shape::smooth_closed(&[
        v(c.x - 1.0, c.y - 0.9),
        v(c.x - 0.62, c.y - 0.05),
        v(c.x - 0.34 + side, c.y + 0.34),
        v(c.x + side, c.y + 0.42),
        v(c.x + 0.34 + side, c.y + 0.34),
        v(c.x + 0.62, c.y - 0.05),
        v(c.x + 1.0, c.y - 0.9),
    ]);
    canvas.fill(&shadow, skin.deep.mix(skin.shade, 0.25));
    canvas.unclip();
    canvas.stroke(&neck, skin.line, LINE);
    // Collar bones.
    for side in [-1.0, 1.0] {
        let bone = brush(
            &[
                v(x + side * 0.12, base + 0.24),
                v(x + side * 0.4, base + 0.2),
                v(x + side * 0.75, base + 0.24),
            ],
            0.014,
            0.2,
        );
        canvas.fill(&bone, skin.deep);
    }
}

/// Both ears, behind the face.
pub(super) fn paint_ears(canvas: &mut Canvas, head: &Head, skin: &Skin) {
    for side in [-1.0f32, 1.0] {
        let toward = head.turn * side;
        // The far ear hides behind the cheek, the near one comes forward.
        if toward > 0.45 {
            continue;
        }
        let x = 0.95 + 0.14 * toward;
        let wide = 0.2 * (1.0 - 0.5 * toward);
        let at = |dx: f32, y: f32| v(side * (x + dx), y);
        let ear = if head.elf_ears {
            Shape::new()
                .move_to(at(-0.1, -0.1))
                .bend_to(at(0.4, -0.3), at(0.85, -0.36))
                .bend_to(at(0.6, 0.2), at(0.1, 0.42))
                .line_to(at(-0.15, 0.4))
                .close()
        } else {
            Shape::smooth_closed(&[
                at(-0.1, -0.12),
                at(wide * 0.7, -0.16),
                at(wide, 0.05),
                at(wide * 0.6, 0.3),
                at(0.02, 0.46),
                at(-0.12, 0.4),
            ])
        };
        canvas.fill(&ear, skin.base);
        canvas.stroke(&ear, skin.line, LINE);
        let inner = Shape::smooth_open(&[
            at(wide * 0.15, -0.02),
            at(wide * 0.6, 0.0),
            at(wide * 0.45, 0.2),
            at(wide * 0.1, 0.28),
        ]);
        canvas.stroke(&inner, skin.deep, 0.03);
    }
}

/// The face itself, with its shadow side; `fringe` is the outline of the front hair, which casts
/// a shadow on the forehead.
pub(super) fn paint_face(canvas: &mut Canvas, head: &Head, skin: &Skin, fringe: &Shape) {
    let contour = head.contour();
    let top = head.face(v(0.0, -0.6));
    let bottom = head.chin_point();
    canvas.fill(
        &contour,
        Ink::Linear(
            top,
            bottom,
            vec![
                (0.0, skin.base),
                (0.55, skin.light),
                (0.85, skin.base),
                (1.0, skin.base.mix(skin.shade, 0.35)),
            ],
        ),
    );
    canvas.clip(&contour);
    let away = -head.light;
    // The side away from the light: the contour, shifted toward the light, leaves a crescent.
    let mut points = head.contour_points();
    for p in &mut points {
        *p = v(p.x * 0.97 - away * 0.1, p.y - 0.02 * smoothstep(0.4, 1.0, p.y));
    }
    let everything = Shape::rectangle(v(-3.0, -3.0), v(3.0, 3.0));
    canvas.fill(&everything.join(hole(&points)), skin.shade.alpha(0.75));
    canvas.fill(fringe, skin.shade);
    canvas.unclip();
}

/// The smooth closed curve through `points`, run against the clock: a hole in a shape around it.
fn hole(points: &[Vec2]) -> Shape {
    let next = points.iter().cycle().skip(1);
    let area: f32 = points.iter().zip(next).map(|(a, b)| a.x * b.y - b.x * a.y).sum();
    let mut ring = points.to_vec();
    if area > 0.0 {
        ring.reverse();
    }
    Shape::smooth_closed(&ring)
}

/// The line around the face, drawn after what lies within it.
pub(super) fn paint_contour(canvas: &mut Canvas, head: &Head, skin: &Skin) {
    let points = head.contour_points();
    canvas.stroke(&Shape::smooth_open(&points[3..14]), skin.line, LINE);
}

/// Blush on both cheeks.
pub(super) fn paint_blush(canvas: &mut Canvas, head: &Head, skin: &Skin, strength: f32) {
    canvas.clip(&head.contour());
    for side in [-1.0, 1.0] {
        let centre = head.face(v(side * 0.6, head.nose_y + 0.04));
        let toward = head.turn * side;
        let radius = 0.3 * (1.0 - 0.3 * toward.max(0.0));
        let opacity = (head.blush * 0.55 + strength * 0.5).min(0.8);
        let stops = vec![
            (0.0, skin.blush.alpha(opacity)),
            (0.5, skin.blush.alpha(opacity * 0.55)),
            (1.0, skin.blush.alpha(0.0)),
        ];
        let spot = Shape::ellipse(centre, radius, radius * 0.62);
        canvas.fill(&spot, Ink::Radial(centre, radius, stops));
        if head.blush_lines || strength > 0.7 {
            for k in -1..=1 {
                let x = side * 0.6 + k as f32 * 0.11;
                let y = head.nose_y + 0.04;
                let stroke =
                    brush(&[v(x + 0.035, y - 0.06), v(x, y), v(x - 0.035, y + 0.06)], 0.013, 0.5);
                canvas.fill(
                    &stroke.map(|p| head.face(p)),
                    skin.blush.mix(skin.line, 0.25).alpha(0.7),
                );
            }
        }
    }
    canvas.unclip();
}

/// What little is drawn of the nose.
pub(super) fn paint_nose(canvas: &mut Canvas, head: &Head, skin: &Skin) {
    let y = head.nose_y;
    // A turned nose stands out from the face.
    let x = 0.1 * head.turn;
    let away = -head.light;
    let bend = |p: Vec2| head.face(p);
    match head.nose {
        NoseKind::Dot => {
            let dot = brush(&[v(x - 0.035, y), v(x, y + 0.012), v(x + 0.035, y)], 0.02, 0.5);
            canvas.fill(&dot.map(bend), skin.line.mix(skin.deep, 0.3));
        }
        NoseKind::Stroke => {
            let stroke =
                brush(&[v(x - 0.06, y), v(x, y + 0.03), v(x + 0.05, y + 0.005)], 0.015, 0.45);
            canvas.fill(&stroke.map(bend), skin.line.mix(skin.deep, 0.3));
        }
        NoseKind::Shadow => {
            let shadow = Shape::polygon(&[
                v(x, y - 0.13),
                v(x + away * 0.085, y + 0.01),
                v(x - away * 0.02, y + 0.03),
            ]);
            canvas.fill(&shadow.map(bend), skin.deep.mix(skin.shade, 0.4));
            let dot = brush(&[v(x - 0.04, y + 0.02), v(x + 0.04, y + 0.02)], 0.012, 0.5);
            canvas.fill(&dot.map(bend), skin.line);
        }
        NoseKind::Corner => {
            let side = if head.turn.abs() > 0.15 { head.turn.signum() } else { away };
            let corner = Shape::smooth_open(&[
                v(x, y - 0.16),
                v(x + side * 0.055, y - 0.03),
                v(x + side * 0.05, y + 0.02),
                v(x - side * 0.02, y + 0.035),
            ]);
            canvas.stroke(&corner.map(bend), skin.line.mix(skin.deep, 0.4), LINE);
        }
    }
}
