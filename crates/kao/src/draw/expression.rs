//! What the face shows: one word for each expression, and what it means for lids, brows and mouth.

use super::random::Stream;

/// How an eye is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lids {
    /// Open, by a factor of the eye's own height.
    Open(f32),
    /// Closed in an upward arc, laughing.
    Laughing,
    /// Closed in a downward arc, calm.
    Resting,
}

/// The forms of mouth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mouth {
    Smile,
    SmallSmile,
    OpenSmile,
    WideOpen,
    Grin,
    Cat,
    Smirk,
    Flat,
    Pout,
    Frown,
    SmallOpen,
    Shout,
    Wavy,
    Fang,
}

/// An expression: what is set beside the face's own form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expression {
    pub mood: Mood,
    /// The eyes, left and right in the picture.
    pub lids: [Lids; 2],
    /// How much the lower lid is raised, 0 to 1.
    pub squint: f32,
    /// Size of the iris against its usual one.
    pub iris: f32,
    /// Raises the inner end of the brows (worry, positive) or lowers it (anger).
    pub brow_slant: f32,
    /// Raises the brows.
    pub brow_lift: f32,
    pub mouth: Mouth,
    /// Added to the blush.
    pub blush: f32,
    /// Where the eyes look, in fractions of the free way.
    pub gaze: (f32, f32),
    pub tears: bool,
}

/// The moods, each with its own lids, brows and mouths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    Neutral,
    Gentle,
    Smile,
    Joy,
    Laugh,
    Grin,
    Wink,
    Smug,
    Pout,
    Shy,
    Surprised,
    Sad,
    Angry,
    Cool,
    Sleepy,
    Calm,
}

impl Expression {
    pub fn sample(stream: &mut Stream, masculine: f32) -> Self {
        use Mouth::*;
        let mood = stream.weighted(&[
            (Mood::Neutral, 5.0),
            (Mood::Gentle, 6.0),
            (Mood::Smile, 5.0),
            (Mood::Joy, 5.0),
            (Mood::Laugh, 2.0),
            (Mood::Grin, 1.2),
            (Mood::Wink, 0.9),
            (Mood::Smug, 1.3),
            (Mood::Pout, 1.2),
            (Mood::Shy, 1.5),
            (Mood::Surprised, 1.5),
            (Mood::Sad, 1.3),
            (Mood::Angry, 1.2 + masculine),
            (Mood::Cool, 2.0 + 2.0 * masculine),
            (Mood::Sleepy, 0.7),
            (Mood::Calm, 0.6),
        ]);
        let open = Lids::Open(stream.around(1.0, 0.05));
        let mut it = Expression {
            mood,
            lids: [open; 2],
            squint: 0.0,
            iris: 1.0,
            brow_slant: stream.around(0.0, 0.03),
            brow_lift: stream.around(0.0, 0.025),
            mouth: Flat,
            blush: 0.0,
            gaze: (stream.bell() * 0.25, stream.bell() * 0.1),
            tears: false,
        };
        let mut pick = |choices: &[(Mouth, f32)]| stream.weighted(choices);
        match mood {
            Mood::Neutral => it.mouth = pick(&[(Flat, 2.0), (SmallSmile, 2.0), (SmallOpen, 1.0)]),
            Mood::Gentle => {
                it.mouth = pick(&[(SmallSmile, 3.0), (Smile, 2.0)]);
                it.squint = 0.15;
                it.brow_slant += 0.02;
            }
            Mood::Smile => {
                it.mouth = pick(&[(Smile, 3.0), (Cat, 0.6), (OpenSmile, 1.0)]);
                it.squint = 0.2;
                it.brow_lift += 0.03;
            }
            Mood::Joy => {
                it.mouth = pick(&[(OpenSmile, 3.0), (WideOpen, 1.5), (Fang, 0.8)]);
                it.brow_lift += 0.06;
            }
            Mood::Laugh => {
                it.lids = [Lids::Laughing; 2];
                it.mouth = pick(&[(OpenSmile, 2.0), (WideOpen, 2.0), (Smile, 1.0), (Cat, 0.5)]);
                it.brow_lift += 0.06;
                it.brow_slant += 0.03;
                it.blush = 0.3;
            }
            Mood::Grin => {
                it.mouth = Grin;
                it.squint = 0.3;
                it.brow_slant -= 0.04;
            }
            Mood::Wink => {
                let side = usize::from(stream.chance(0.5));
                it.lids[side] = Lids::Laughing;
                it.mouth = stream.weighted(&[(Smile, 1.0), (OpenSmile, 1.5), (Cat, 0.6)]);
                it.brow_lift += 0.03;
            }
            Mood::Smug => {
                it.lids = [Lids::Open(0.72); 2];
                it.mouth = pick(&[(Smirk, 2.0), (Cat, 1.0)]);
                it.brow_slant -= 0.05;
            }
            Mood::Pout => {
                it.mouth = pick(&[(Pout, 2.0), (Wavy, 0.6)]);
                it.brow_slant -= 0.05;
                it.blush = 0.35;
            }
            Mood::Shy => {
                it.mouth = pick(&[(Wavy, 1.0), (SmallOpen, 1.0), (SmallSmile, 1.0)]);
                it.brow_slant += 0.11;
                it.blush = 0.8;
                it.gaze.0 = 0.8 * stream.sign();
            }
            Mood::Surprised => {
                it.lids = [Lids::Open(1.1); 2];
                it.iris = 0.84;
                it.mouth = pick(&[(SmallOpen, 2.0), (Shout, 1.0)]);
                it.brow_lift += 0.1;
            }
            Mood::Sad => {
                it.lids = [Lids::Open(0.88); 2];
                it.mouth = pick(&[(Frown, 2.0), (SmallOpen, 1.0), (Wavy, 0.6)]);
                it.brow_slant += 0.14;
                it.tears = stream.chance(0.3);
            }
            Mood::Angry => {
                it.lids = [Lids::Open(0.86); 2];
                it.mouth = pick(&[(Frown, 2.0), (Shout, 1.0), (Flat, 1.0)]);
                it.brow_slant -= 0.15;
                it.brow_lift -= 0.05;
            }
            Mood::Cool => {
                it.lids = [Lids::Open(0.8); 2];
                it.mouth = pick(&[(Flat, 3.0), (Smirk, 0.7)]);
                it.brow_slant -= 0.06;
            }
            Mood::Sleepy => {
                it.lids = [Lids::Open(0.6); 2];
                it.mouth = pick(&[(Flat, 1.0), (SmallOpen, 1.0), (Cat, 0.5)]);
                it.brow_lift += 0.04;
            }
            Mood::Calm => {
                it.lids = [Lids::Resting; 2];
                it.mouth = pick(&[(SmallSmile, 2.0), (Flat, 1.0), (Smile, 1.0)]);
            }
        }
        it
    }
}
