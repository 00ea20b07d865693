//! Everything that is chosen about one portrait, before the first line is drawn.

use super::accessories::Accessories;
use super::brows::BrowForm;
use super::canvas::View;
use super::clothes::Clothes;
use super::expression::Expression;
use super::eyes::EyeForm;
use super::geometry::v;
use super::hair::HairStyle;
use super::hair_back::BackHair;
use super::hair_front::FrontHair;
use super::hair_side::SideHair;
use super::head::Head;
use super::mouth::MouthForm;
use super::palette::Palette;
use super::random::{Part, Stream};

/// How much smaller a head with hat or ears is drawn, and how much lower.
const CROWNED_SCALE: f32 = 0.88;
const CROWNED_SHIFT: f32 = 0.055;

/// The plan of one portrait.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Where the head lies in the frame.
    pub view: View,
    pub masculine: f32,
    pub head: Head,
    pub eyes: EyeForm,
    pub brows: BrowForm,
    pub mouth: MouthForm,
    pub expression: Expression,
    pub style: HairStyle,
    pub front: FrontHair,
    pub sides: SideHair,
    pub back: BackHair,
    pub clothes: Clothes,
    pub accessories: Accessories,
    pub palette: Palette,
    /// Opacity of brows and lashes over the fringe.
    pub show_through: f32,
}

impl Plan {
    /// Chooses the portrait `index` of `seed`.
    pub fn sample(seed: u64, index: u64) -> Self {
        let stream = &mut Stream::new(seed, index, Part::Plan);
        let masculine = if stream.chance(0.17) { stream.range(0.6, 1.0) } else { 0.0 };
        let maturity = (stream.range(0.0, 0.85) + 0.25 * masculine).min(1.0);
        let back = BackHair::sample(stream, masculine);
        let mut accessories = Accessories::sample(stream, masculine);
        if back.is_tied_high() {
            accessories.pin = None;
        }
        let head = Head::sample(stream, maturity, masculine);
        // What stands on the head needs room above it.
        let crowned = accessories.is_tall();
        let unit = if crowned { CROWNED_SCALE } else { 1.0 }
            * stream.around(0.345, 0.022).clamp(0.29, 0.4);
        let tilt = stream.around(0.0, 0.15) + 0.06 * head.turn * stream.sign();
        let eye_line = stream.around(0.52, 0.027) + if crowned { CROWNED_SHIFT } else { 0.0 };
        let view = View {
            origin: v(0.5 - 0.32 * unit * head.turn + stream.around(0.0, 0.018), eye_line),
            unit,
            angle: tilt,
        };
        Plan {
            view,
            masculine,
            eyes: EyeForm::sample(stream, maturity, masculine),
            brows: BrowForm::sample(stream, masculine),
            mouth: MouthForm::sample(stream, maturity, masculine),
            expression: Expression::sample(stream, masculine),
            style: HairStyle::sample(stream),
            front: FrontHair::sample(stream, masculine),
            sides: SideHair::sample(stream, masculine),
            back,
            clothes: Clothes::sample(stream, masculine),
            accessories,
            palette: Palette::sample(&mut Stream::new(seed, index, Part::Colours)),
            show_through: stream.range(0.2, 0.48),
            head,
        }
    }
}
