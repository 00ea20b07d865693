//! The colours of one picture: skin, hair, eyes, cloth and accent, chosen to go together.

use super::colour::{Colour, Lch, lch};
use super::random::Stream;

/// The hue that shadows lean toward, as in painted skies and rooms.
const SHADOW_HUE: f32 = 290.0;

/// The lightness below which yellow looks dirty.
const MUD_LIGHTNESS: f32 = 0.72;

/// Skin under one light.
#[derive(Clone, Debug)]
pub(super) struct Skin {
    pub base: Colour,
    pub light: Colour,
    pub shade: Colour,
    pub deep: Colour,
    pub line: Colour,
    pub blush: Colour,
    pub lip: Colour,
}

/// Hair under one light.
#[derive(Clone, Debug)]
pub(super) struct HairInk {
    pub base: Colour,
    pub light: Colour,
    pub gloss: Colour,
    pub shade: Colour,
    pub deep: Colour,
    pub line: Colour,
    pub tip: Colour,
    /// Opacity of the gloss band.
    pub shine: f32,
}

/// An iris from top to bottom.
#[derive(Clone, Debug)]
pub(super) struct IrisInk {
    pub rim: Colour,
    pub top: Colour,
    pub middle: Colour,
    pub bottom: Colour,
    pub glint: Colour,
    pub pupil: Colour,
}

/// A coloured material: base, shadow, outline.
#[derive(Clone, Debug)]
pub(super) struct Cloth {
    pub base: Colour,
    pub light: Colour,
    pub shade: Colour,
    pub line: Colour,
}

/// All colours of one picture.
#[derive(Clone, Debug)]
pub(super) struct Palette {
    pub skin: Skin,
    pub hair: HairInk,
    /// The two irises, left and right in the picture.
    pub irises: [IrisInk; 2],
    pub lash: Colour,
    pub brow: Colour,
    pub cloth: Cloth,
    pub trim: Cloth,
    pub accent: Cloth,
    pub skin_tone: Lch,
    pub hair_hue: Lch,
    /// Left and right in the picture.
    pub eye_hues: [Lch; 2],
    pub accent_hue: Lch,
}

impl Palette {
    pub fn sample(stream: &mut Stream) -> Self {
        let skin_tone = sample_skin(stream);
        let hair = sample_hair(stream);
        let eye = sample_eye(stream, hair);
        let other_eye = if stream.chance(0.012) {
            eye.change(0.0, 1.0, stream.range(90.0, 200.0))
        } else {
            eye
        };
        let accent = sample_accent(stream, hair);
        let cloth = sample_cloth(stream, accent);
        let trim = if stream.chance(0.6) { lch(0.97, 0.005, 90.0) } else { accent };
        let lash = if stream.chance(0.6) {
            lch(0.2, 0.02, hair.h)
        } else {
            lch((hair.l - 0.38).clamp(0.16, 0.34), (hair.c * 0.6).min(0.07), hair.h)
        };
        Palette {
            skin: skin_inks(skin_tone),
            hair: hair_inks(stream, hair),
            irises: [iris_inks(eye), iris_inks(other_eye)],
            lash: lash.rgb(),
            brow: lch((hair.l - 0.28).clamp(0.2, 0.6), (hair.c * 0.8).min(0.1), hair.h).rgb(),
            cloth: cloth_inks(cloth),
            trim: cloth_inks(trim),
            accent: cloth_inks(accent),
            skin_tone,
            hair_hue: hair,
            eye_hues: [eye, other_eye],
            accent_hue: accent,
        }
    }
}

/// A material of colour `base`.
pub(super) fn cloth_inks(base: Lch) -> Cloth {
    Cloth {
        base: base.rgb(),
        light: base.change(0.06, 0.9, 0.0).rgb(),
        shade: base.change(-0.1, 1.05, 0.0).toward_hue(SHADOW_HUE, 15.0).rgb(),
        line: lch((base.l - 0.35).max(0.15), base.c * 0.8, base.h).rgb(),
    }
}

fn sample_skin(stream: &mut Stream) -> Lch {
    let (l, c, h) = stream.weighted(&[
        ((0.956, 0.025, 56.0), 4.0),
        ((0.95, 0.032, 63.0), 5.0),
        ((0.935, 0.044, 61.0), 4.0),
        ((0.89, 0.062, 55.0), 0.8),
        ((0.78, 0.08, 56.0), 0.4),
        ((0.63, 0.075, 52.0), 0.25),
    ]);
    lch(stream.around(l, 0.012).min(0.972), c * stream.range(0.8, 1.15), stream.around(h, 5.0))
}

fn skin_inks(base: Lch) -> Skin {
    // The paler the skin, the more its shadow turns to rose.
    let pale = ((base.l - 0.6) / 0.35).clamp(0.0, 1.0);
    Skin {
        base: base.rgb(),
        light: base.change(0.012, 0.75, 2.0).rgb(),
        shade: lch(base.l - 0.075, base.c * 1.1 + 0.028, base.h - 18.0 * pale - 4.0).rgb(),
        deep: lch(base.l - 0.15, base.c * 1.1 + 0.042, base.h - 22.0 * pale - 6.0).rgb(),
        line: lch(base.l * 0.57, 0.075, base.h - 16.0).rgb(),
        blush: lch(0.36 + 0.41 * base.l, 0.13, 22.0).rgb(),
        lip: lch(0.3 + 0.38 * base.l, 0.12, 22.0).rgb(),
    }
}

/// A colour that hair or eyes come in: its name, its centre, how much its lightness varies, and how
/// often it comes.
struct Tone {
    name: &'static str,
    centre: Lch,
    spread: f32,
    weight: f32,
}

const fn tone(name: &'static str, centre: Lch, spread: f32, weight: f32) -> Tone {
    Tone { name, centre, spread, weight }
}

const HAIR: [Tone; 23] = [
    tone("black hair", lch(0.27, 0.018, 290.0), 0.03, 7.0),
    // Blue-black and plum-black.
    tone("black hair", lch(0.30, 0.05, 272.0), 0.04, 4.0),
    tone("black hair", lch(0.31, 0.04, 330.0), 0.03, 2.0),
    tone("brown hair", lch(0.36, 0.045, 45.0), 0.04, 8.0),
    tone("brown hair", lch(0.48, 0.065, 50.0), 0.05, 10.0),
    tone("brown hair", lch(0.58, 0.08, 62.0), 0.05, 7.0),
    tone("auburn hair", lch(0.50, 0.12, 38.0), 0.05, 6.0),
    tone("blonde hair", lch(0.81, 0.115, 78.0), 0.04, 9.0),
    tone("blonde hair", lch(0.89, 0.085, 84.0), 0.025, 6.0),
    // Honey.
    tone("blonde hair", lch(0.70, 0.115, 68.0), 0.04, 5.0),
    tone("silver hair", lch(0.84, 0.012, 280.0), 0.05, 5.0),
    tone("grey hair", lch(0.62, 0.015, 270.0), 0.06, 3.0),
    tone("red hair", lch(0.52, 0.18, 25.0), 0.04, 5.0),
    tone("orange hair", lch(0.68, 0.15, 50.0), 0.04, 4.0),
    tone("pink hair", lch(0.78, 0.11, 5.0), 0.05, 8.0),
    tone("pink hair", lch(0.64, 0.17, 3.0), 0.05, 4.0),
    tone("purple hair", lch(0.50, 0.14, 310.0), 0.06, 7.0),
    // Lavender.
    tone("purple hair", lch(0.72, 0.09, 302.0), 0.06, 6.0),
    tone("blue hair", lch(0.45, 0.12, 268.0), 0.06, 6.0),
    tone("light blue hair", lch(0.68, 0.10, 245.0), 0.06, 5.0),
    tone("teal hair", lch(0.62, 0.09, 195.0), 0.06, 4.0),
    tone("green hair", lch(0.50, 0.09, 155.0), 0.06, 3.0),
    // Mint.
    tone("green hair", lch(0.78, 0.09, 150.0), 0.05, 1.5),
];

const EYES: [Tone; 10] = [
    tone("blue eyes", lch(0.52, 0.14, 258.0), 0.04, 7.0),
    tone("light blue eyes", lch(0.60, 0.11, 225.0), 0.04, 4.0),
    tone("green eyes", lch(0.55, 0.11, 155.0), 0.04, 5.0),
    tone("teal eyes", lch(0.58, 0.09, 190.0), 0.04, 3.0),
    tone("purple eyes", lch(0.48, 0.15, 300.0), 0.04, 5.0),
    tone("red eyes", lch(0.48, 0.17, 22.0), 0.04, 5.0),
    tone("pink eyes", lch(0.55, 0.16, 358.0), 0.04, 2.0),
    tone("amber eyes", lch(0.62, 0.13, 72.0), 0.04, 4.0),
    tone("brown eyes", lch(0.44, 0.08, 50.0), 0.04, 7.0),
    tone("black eyes", lch(0.34, 0.03, 40.0), 0.04, 2.0),
];

/// The name of the tone whose centre is nearest to `colour`: what one would call it, whichever tone
/// it was drawn from.
fn nearest(tones: &[Tone], colour: Lch) -> &'static str {
    let distances = tones.iter().map(|tone| (tone.centre.distance(colour), tone.name));
    distances.min_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |(_, name)| name)
}

/// What one would call hair of this colour: `blue hair`.
pub(super) fn hair_name(colour: Lch) -> &'static str {
    nearest(&HAIR, colour)
}

/// What hair and eyes of any colour may be called.
pub(super) fn colour_names() -> [Vec<&'static str>; 2] {
    let names = |tones: &[Tone]| {
        let mut names: Vec<&'static str> = tones.iter().map(|tone| tone.name).collect();
        names.dedup();
        names
    };
    [names(&HAIR), names(&EYES)]
}

/// What one would call eyes of this colour: `green eyes`.
pub(super) fn eye_name(colour: Lch) -> &'static str {
    nearest(&EYES, colour)
}

fn choose<'a>(stream: &mut Stream, tones: &'a [Tone]) -> &'a Tone {
    let choices: Vec<(&Tone, f32)> = tones.iter().map(|tone| (tone, tone.weight)).collect();
    stream.weighted(&choices)
}

fn sample_hair(stream: &mut Stream) -> Lch {
    let Tone { centre: Lch { l, c, h }, spread, .. } = *choose(stream, &HAIR);
    let l = stream.around(l, spread).clamp(0.2, 0.92);
    lch(l, c * stream.range(0.65, 1.12), stream.around(h, 8.0))
}

fn hair_inks(stream: &mut Stream, base: Lch) -> HairInk {
    let dark = 1.0 - base.l;
    let shade = base.change(-0.08 - 0.06 * base.l, 1.05, 0.0).toward_hue(SHADOW_HUE, 12.0);
    let deep = base.change(-0.13 - 0.13 * base.l, 1.0, 0.0).toward_hue(SHADOW_HUE, 18.0);
    let tip = match stream.count(0, 9) {
        0 => base.change(0.1, 1.0, stream.range(30.0, 70.0) * stream.sign()),
        1..=3 => base.change(0.07, 1.0, 0.0),
        _ => base.change(-0.02, 1.0, 0.0),
    };
    let gloss = lch((base.l + 0.27 + 0.12 * dark).min(0.99), base.c * 0.42 + 0.01, base.h);
    HairInk {
        base: base.rgb(),
        light: base.change(0.075 + 0.03 * dark, 0.95, 0.0).rgb(),
        gloss: gloss.rgb(),
        shade: shade.rgb(),
        deep: deep.rgb(),
        line: lch((base.l * 0.55 - 0.06).max(0.1), (base.c * 0.9).min(0.1), base.h)
            .toward_hue(SHADOW_HUE, 20.0)
            .rgb(),
        tip: tip.rgb(),
        shine: stream.range(0.5, 1.0),
    }
}

fn sample_eye(stream: &mut Stream, hair: Lch) -> Lch {
    let Tone { centre: colour, spread, .. } = *choose(stream, &EYES);
    // Now and then the hair's own hue.
    let hue = if stream.chance(0.18) && hair.c > 0.06 { hair.h } else { colour.h };
    lch(stream.around(colour.l, spread), colour.c * stream.range(0.8, 1.2), stream.around(hue, 8.0))
}

fn iris_inks(base: Lch) -> IrisInk {
    IrisInk {
        rim: base.change(-0.3, 0.7, 5.0).rgb(),
        top: base.change(-0.24, 0.85, 8.0).rgb(),
        middle: base.change(-0.02, 1.1, 0.0).rgb(),
        bottom: base.change(0.22, 0.9, -8.0).rgb(),
        glint: base.change(0.34, 0.55, -14.0).rgb(),
        pupil: lch((base.l - 0.36).max(0.12), base.c * 0.5, base.h).rgb(),
    }
}

fn sample_accent(stream: &mut Stream, hair: Lch) -> Lch {
    let hue = hair.h + stream.weighted(&[(180.0, 3.0), (120.0, 2.0), (240.0, 2.0), (30.0, 2.0)]);
    let l: f32 = stream.weighted(&[(0.42, 2.0), (0.55, 3.0), (0.68, 2.0), (0.85, 1.0)]);
    let red = stream.chance(0.3);
    let hue = if red { stream.around(20.0, 10.0) } else { stream.around(hue, 12.0) };
    // Dark yellow is mud.
    let yellow = (50.0..125.0).contains(&hue.rem_euclid(360.0));
    let l = if yellow { l.max(MUD_LIGHTNESS) } else { l };
    lch(stream.around(l, 0.04), stream.range(0.1, 0.2), hue)
}

fn sample_cloth(stream: &mut Stream, accent: Lch) -> Lch {
    let hue = stream.range(0.0, 360.0);
    let base = stream.weighted(&[
        (lch(0.96, 0.008, hue), 4.0),
        (lch(0.3, 0.06, 265.0), 3.0),
        (lch(0.24, 0.015, hue), 2.5),
        (lch(0.5, 0.02, hue), 1.0),
        (lch(0.55, 0.12, hue), 3.0),
        (lch(0.8, 0.07, hue), 3.0),
        (accent.change(-0.05, 0.9, 0.0), 2.0),
    ]);
    lch((base.l + stream.range(-0.04, 0.04)).clamp(0.15, 0.98), base.c, base.h)
}
