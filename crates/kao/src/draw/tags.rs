//! What a portrait shows, in words: the tags that a model can be asked for.
//!
//! A tag says what is seen, not what was meant: the colour of eyes that are closed is none.
//! Nothing tells left from right, since pictures are mirrored in training.

use super::accessories::{Band, Ears, Glasses, Hat, Pin};
use super::background::Kind;
use super::clothes::Outfit;
use super::expression::{Lids, Mood, Mouth};
use super::hair_back::BackCut;
use super::hair_front::FrontCut;
use super::palette::{colour_names, eye_name, hair_name};
use super::plan::Plan;
use super::random::{Part, Stream};

/// The lightness below which skin is tanned, and below which it is dark.
const TAN_BELOW: f32 = 0.835;
const DARK_BELOW: f32 = 0.705;

/// From this opacity on a blush is seen in a small picture.
const SEEN_BLUSH: f32 = 0.7;

/// The tags of portrait `index` of `seed`, such as `blue hair`, `smile`, `glasses`: each once, in an
/// order of kinds (hair, eyes, expression, …). As [`face`](super::face) draws it, at any size.
pub fn tags(seed: u64, index: u64) -> Vec<&'static str> {
    let plan = Plan::sample(seed, index);
    let background = Kind::sample(&mut Stream::new(seed, index, Part::Background));
    let mut tags = vec![if plan.masculine > 0.0 { "boy" } else { "girl" }];
    tags.push(hair_name(plan.palette.hair_hue));
    tags.extend(back_hair(plan.back.cut));
    tags.extend(front_hair(plan.front.cut));
    tags.extend((plan.front.ahoge > 0).then_some("ahoge"));
    tags.extend(eyes(&plan));
    tags.extend(expression(&plan));
    let skin = plan.palette.skin_tone.l;
    tags.extend((DARK_BELOW..TAN_BELOW).contains(&skin).then_some("tan skin"));
    tags.extend((skin < DARK_BELOW).then_some("dark skin"));
    tags.extend(worn(&plan));
    tags.push(outfit(plan.clothes.outfit));
    tags.push(scene(background));
    tags
}

/// Tags that belong together, by what they are about: of one group a face has one at most, or, where
/// a group is a single tag, has it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnGroup {
    /// What they are about: `hair colour`.
    pub name: &'static str,
    /// The tags.
    pub tags: Vec<&'static str>,
    /// Those whose pictures this group is about; all where it is empty.
    pub about: Vec<&'static str>,
}

/// Expressions that have lids, a mouth, a blush or pupils of their own.
const PLAIN_EXPRESSIONS: [&str; 7] =
    ["happy", "laughing", "grin", "wink", "shy", "surprised", "calm"];
/// Expressions that share their mouths with each other, and differ by the slant of brows, which hair
/// covers more often than not, or by a tenth of an eye's height.
const QUIET_EXPRESSIONS: [&str; 9] =
    ["neutral", "gentle", "smile", "smug", "pout", "sad", "angry", "cool", "sleepy"];

/// The groups that tags are in.
pub fn tag_groups() -> Vec<DrawnGroup> {
    let [hair, eyes] = colour_names();
    let of = |name, tags: Vec<&'static str>| DrawnGroup { name, tags, about: Vec::new() };
    let mut groups = vec![
        of("hair colour", hair),
        of("eye colour", eyes),
        of("hair length", vec!["short hair", "medium hair", "long hair"]),
    ];
    let expressions = [&PLAIN_EXPRESSIONS[..], &QUIET_EXPRESSIONS].concat();
    for (name, about) in
        [("expression", &PLAIN_EXPRESSIONS[..]), ("quiet expression", &QUIET_EXPRESSIONS)]
    {
        groups.push(DrawnGroup { name, tags: expressions.clone(), about: about.to_vec() });
    }
    groups.push(of("mouth", vec!["open mouth", "closed mouth"]));
    for single in ["closed eyes", "glasses", "animal ears"] {
        groups.push(of(single, vec![single]));
    }
    groups.push(of("kind of ears", vec!["cat ears", "fox ears", "rabbit ears"]));
    groups.extend(["hat", "hair ribbon"].map(|single| of(single, vec![single])));
    groups
}

fn back_hair(cut: BackCut) -> &'static [&'static str] {
    match cut {
        BackCut::Short => &["short hair"],
        BackCut::Shaggy => &["short hair", "messy hair"],
        BackCut::Bob => &["short hair", "bob cut"],
        BackCut::Medium | BackCut::Flared => &["medium hair"],
        BackCut::Long => &["long hair"],
        BackCut::LongWavy => &["long hair", "wavy hair"],
        BackCut::Wild => &["long hair", "messy hair"],
        BackCut::TwinTails => &["long hair", "twintails"],
        BackCut::LowTails => &["long hair", "low twintails"],
        BackCut::Ponytail => &["long hair", "ponytail"],
        BackCut::SideTail => &["long hair", "side ponytail"],
        BackCut::Buns => &["double bun"],
        BackCut::Braids => &["long hair", "twin braids"],
        BackCut::Drills => &["long hair", "twin drills"],
    }
}

fn front_hair(cut: FrontCut) -> Option<&'static str> {
    match cut {
        FrontCut::Blunt | FrontCut::Rounded => Some("blunt bangs"),
        FrontCut::Swept | FrontCut::Slanted => Some("swept bangs"),
        FrontCut::Curtain | FrontCut::Arched => Some("parted bangs"),
        FrontCut::CentreLock => Some("hair between eyes"),
        FrontCut::OverEye => Some("hair over one eye"),
        FrontCut::Back => Some("hair slicked back"),
        FrontCut::Spiky => Some("spiky hair"),
        FrontCut::Zigzag | FrontCut::Choppy | FrontCut::Wispy => None,
    }
}

fn eyes(plan: &Plan) -> Vec<&'static str> {
    let is_open = plan.expression.lids.map(|lids| matches!(lids, Lids::Open(_)));
    let [left, right] = plan.palette.eye_hues.map(eye_name);
    match is_open {
        [false, false] => vec!["closed eyes"],
        [true, false] => vec!["one eye closed", left],
        [false, true] => vec!["one eye closed", right],
        [true, true] if left == right => vec![left],
        [true, true] => vec!["heterochromia", left, right],
    }
}

fn expression(plan: &Plan) -> Vec<&'static str> {
    let expression = &plan.expression;
    let mut tags = vec![match expression.mood {
        Mood::Neutral => "neutral",
        Mood::Gentle => "gentle",
        Mood::Smile => "smile",
        Mood::Joy => "happy",
        Mood::Laugh => "laughing",
        Mood::Grin => "grin",
        Mood::Wink => "wink",
        Mood::Smug => "smug",
        Mood::Pout => "pout",
        Mood::Shy => "shy",
        Mood::Surprised => "surprised",
        Mood::Sad => "sad",
        Mood::Angry => "angry",
        Mood::Cool => "cool",
        Mood::Sleepy => "sleepy",
        Mood::Calm => "calm",
    }];
    tags.push(match expression.mouth {
        Mouth::OpenSmile | Mouth::WideOpen | Mouth::SmallOpen | Mouth::Shout | Mouth::Fang => {
            "open mouth"
        }
        _ => "closed mouth",
    });
    tags.extend((expression.mouth == Mouth::Fang).then_some("fang"));
    tags.extend((expression.mouth == Mouth::Cat).then_some("cat mouth"));
    tags.extend(expression.tears.then_some("tears"));
    tags.extend((plan.head.blush + expression.blush > SEEN_BLUSH).then_some("blush"));
    tags
}

fn worn(plan: &Plan) -> Vec<&'static str> {
    let it = &plan.accessories;
    let mut tags = Vec::new();
    if let Some(glasses) = it.glasses {
        tags.push("glasses");
        tags.extend((glasses == Glasses::Round).then_some("round glasses"));
        tags.extend((glasses == Glasses::Under).then_some("under-rim glasses"));
    }
    if let Some(ears) = it.ears {
        tags.push("animal ears");
        tags.push(match ears {
            Ears::Cat => "cat ears",
            Ears::Fox => "fox ears",
            Ears::Rabbit => "rabbit ears",
        });
    }
    if let Some(hat) = it.hat {
        tags.push("hat");
        tags.extend((hat == Hat::Beret).then_some("beret"));
    }
    let ribbons = plan.back.bows && !plan.back.ties().is_empty();
    if ribbons || it.band == Some(Band::BigBow) || it.pin == Some(Pin::Bow) {
        tags.push("hair ribbon");
    }
    tags.extend(matches!(it.band, Some(Band::Plain | Band::Frilled)).then_some("hairband"));
    tags.extend((it.pin == Some(Pin::Flower)).then_some("hair flower"));
    let is_clip = matches!(it.pin, Some(Pin::Bars | Pin::Star | Pin::Cross));
    tags.extend(is_clip.then_some("hairclip"));
    tags.extend(it.earrings.then_some("earrings"));
    tags.extend(plan.head.elf_ears.then_some("pointy ears"));
    tags
}

fn outfit(outfit: Outfit) -> &'static str {
    match outfit {
        Outfit::Sailor => "sailor uniform",
        Outfit::Shirt => "shirt",
        Outfit::Blazer => "blazer",
        Outfit::Turtleneck => "turtleneck",
        Outfit::RoundNeck => "round neck",
        Outfit::Kimono => "kimono",
        Outfit::Hood => "hoodie",
        Outfit::Frilled => "frills",
        Outfit::Bare => "bare shoulders",
    }
}

fn scene(kind: Kind) -> &'static str {
    match kind {
        Kind::White => "white background",
        Kind::Flat => "simple background",
        Kind::Gradient => "gradient background",
        Kind::Stripes => "striped background",
        Kind::Dots => "dotted background",
        Kind::Bokeh => "bokeh",
        Kind::Rays => "rays",
        Kind::Window => "window",
        Kind::Sky => "sky",
        Kind::Petals => "petals",
    }
}
