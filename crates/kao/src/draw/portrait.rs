//! Puts a portrait together, layer over layer.

use super::accessories::{bow, tie_band};
use super::canvas::{Canvas, View};
use super::geometry::v;
use super::hair::{HairPainter, Lock};
use super::plan::Plan;
use super::random::{Part, Stream};
use super::{Face, background, brows, eyes, head, mouth};

/// Draws portrait `index` of `seed` on a canvas of `side`·`factor` pixels and reduces it to
/// `side`. `None` when there is no memory for the canvas.
pub(super) fn draw(seed: u64, index: u64, side: u32, factor: u32) -> Option<Face> {
    let plan = Plan::sample(seed, index);
    let mut canvas = Canvas::new(side * factor)?;
    Portrait { plan: &plan, seed, index }.paint(&mut canvas);
    Some(canvas.reduced(factor))
}

struct Portrait<'a> {
    plan: &'a Plan,
    seed: u64,
    index: u64,
}

impl Portrait<'_> {
    fn stream(&self, part: Part) -> Stream {
        Stream::new(self.seed, self.index, part)
    }

    fn paint(&self, canvas: &mut Canvas) {
        let plan = self.plan;
        let head = &plan.head;
        let palette = &plan.palette;
        let skin = &palette.skin;
        let hair = HairPainter {
            ink: &palette.hair,
            style: &plan.style,
            light: head.light,
            gloss_shift: 0.3 * head.turn + 0.15 * head.light,
        };
        // The body stays upright when the head tilts, its neck below the chin.
        let body = View { angle: plan.view.angle * 0.3, ..plan.view };

        background::paint(canvas, palette, head.light, &mut self.stream(Part::Background));

        canvas.look(plan.view);
        plan.accessories.paint_behind(canvas, head, palette);
        plan.back.paint(canvas, head, &hair, &mut self.stream(Part::Back));

        canvas.look(body);
        head::paint_neck(canvas, head, skin, plan.masculine);
        plan.clothes.paint(canvas, head, palette);

        canvas.look(plan.view);
        head::paint_ears(canvas, head, skin);
        plan.accessories.paint_earrings(canvas, head, palette);

        let stream = &mut self.stream(Part::Front);
        let fringe: Vec<Lock> =
            plan.front.locks(stream).iter().map(|lock| lock.map(|p| head.hair(p))).collect();
        let fringe_outline = plan.front.outline(head, &fringe);
        let shadow = fringe_outline.shifted(v(-0.03 * head.light, 0.075));
        head::paint_face(canvas, head, skin, &shadow);
        head::paint_blush(canvas, head, skin, plan.expression.blush);
        head::paint_contour(canvas, head, skin);
        head::paint_nose(canvas, head, skin);
        mouth::paint(canvas, head, &plan.mouth, plan.expression.mouth, skin);
        eyes::paint(canvas, head, &plan.eyes, &plan.expression, palette);
        let brow_shapes = brows::shapes(head, &plan.brows, &plan.eyes, &plan.expression);
        brows::paint(canvas, &brow_shapes, palette, 1.0);
        plan.accessories.paint_glasses(canvas, head, &plan.eyes, palette);

        plan.front.paint_cap(canvas, head, &hair, stream);
        self.paint_sides(canvas, &hair);
        plan.back.paint_over_shoulders(canvas, head, &hair, &mut self.stream(Part::Accessories));
        plan.accessories.paint_ears(canvas, head, &hair, palette);
        plan.front.paint(canvas, head, &hair, &fringe, stream);
        brows::paint(canvas, &brow_shapes, palette, plan.show_through);
        eyes::paint_through_hair(
            canvas,
            head,
            &plan.eyes,
            &plan.expression,
            palette,
            plan.show_through,
        );
        for tie in plan.back.ties() {
            let tilt = 0.5 * tie.x.signum();
            if plan.back.bows {
                bow(canvas, head.behind(tie), 0.26, tilt, &palette.accent);
            } else if !plan.back.is_bun() {
                tie_band(canvas, head.behind(tie), tilt, &palette.accent);
            }
        }
        plan.accessories.paint_over(canvas, head, palette, plan.front.crown());
    }

    fn paint_sides(&self, canvas: &mut Canvas, hair: &HairPainter<'_>) {
        let plan = self.plan;
        let stream = &mut self.stream(Part::Sides);
        // The far side first, so that the near one lies over it.
        let far = if plan.head.turn >= 0.0 { 1.0 } else { -1.0 };
        for side in [far, -far] {
            for lock in plan.sides.locks(side, stream) {
                hair.paint(canvas, &lock.map(|p| plan.head.hair(p)), stream, 0.1);
            }
        }
    }
}
