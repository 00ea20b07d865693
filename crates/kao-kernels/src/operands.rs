//! What the kernels are called with: shapes, inputs, outputs, weights. Borrowed slices and counts,
//! nothing computed here.

use crate::{Activation, Destination};

/// The product of counts, which a slice is as long as.
///
/// # Panics
/// If no slice is so long: a product that wraps around would be the length of a shorter one.
#[track_caller]
pub(crate) const fn length<const N: usize>(counts: [usize; N]) -> usize {
    let (mut length, mut at) = (1_usize, 0);
    while at < N {
        length = match length.checked_mul(counts[at]) {
            Some(length) => length,
            None => panic!("operands of more values than memory has"),
        };
        at += 1;
    }
    length
}

/// The pixels of a batch: `n` images of `h` × `w`.
///
/// For a matrix of `rows` rows use [`Pixels::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Number of images.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Pixels {
    /// `n` images of `h` × `w` pixels.
    pub const fn new(n: usize, h: usize, w: usize) -> Self {
        Self { n, h, w }
    }

    /// `rows` images of one pixel: the rows of a matrix.
    pub const fn rows(rows: usize) -> Self {
        Self { n: rows, h: 1, w: 1 }
    }

    /// The pixels that these are made of by a nearest ×2 upsampling, if there is one.
    pub(crate) const fn before_upsampling(self, upsampled: bool) -> Self {
        if upsampled { Self { n: self.n, h: self.h / 2, w: self.w / 2 } } else { self }
    }

    /// How many pixels these are stored as: a quarter of them before a nearest ×2 upsampling.
    ///
    /// # Panics
    /// If they are upsampled and a side is odd.
    #[track_caller]
    pub(crate) fn stored(self, upsampled: bool) -> usize {
        let has_even_sides = self.h.is_multiple_of(2) && self.w.is_multiple_of(2);
        assert!(!upsampled || has_even_sides, "an upsampled image has even sides");
        self.before_upsampling(upsampled).total()
    }

    /// Pixels of one image.
    pub const fn per_image(self) -> usize {
        length([self.h, self.w])
    }

    /// Pixels of all images.
    pub const fn total(self) -> usize {
        length([self.n, self.h, self.w])
    }

    /// The same images at half the side, rounded up: what a stride-2 convolution with padding 1
    /// leaves.
    pub const fn halved(self) -> Self {
        Self { n: self.n, h: self.h.div_ceil(2), w: self.w.div_ceil(2) }
    }
}

/// Where the zeros around the input of a 3×3 convolution with stride 2 lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Padding {
    /// One row or column on every side: padding 1.
    #[default]
    Around,
    /// One at the bottom and one at the right. Of odd sides the last row or column is the padding's
    /// only neighbour and no window begins there, so sides are halved downwards.
    Behind,
}

impl Padding {
    /// The pixels of the output, for an input of `pixels`.
    pub const fn output(self, pixels: Pixels) -> Pixels {
        match self {
            Padding::Around => pixels.halved(),
            Padding::Behind => Pixels { n: pixels.n, h: pixels.h / 2, w: pixels.w / 2 },
        }
    }

    /// Rows and columns of zeros before the first.
    pub(crate) const fn before(self) -> usize {
        match self {
            Padding::Around => 1,
            Padding::Behind => 0,
        }
    }
}

/// What happens to an input on its way into a convolution: `act(x · scale + shift)`, with one scale
/// and one shift for every image and channel. Group normalization and its affine part fold into
/// this (see [`crate::GroupNorm::folded`]). The zero padding of a convolution is put around the
/// result, so it stays zero.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a> {
    /// `[N, C]`, C being the channels of all parts together.
    pub scale: &'a [f32],
    /// `[N, C]`.
    pub shift: &'a [f32],
    /// Applied last.
    pub activation: Activation,
}

/// An input, channels-last: one slice, or two that lie side by side along the channels (a
/// concatenation that nobody has to make), optionally with a [`Prologue`], optionally read through a
/// nearest ×2 upsampling.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub(crate) first: &'a [f32],
    pub(crate) c_first: usize,
    pub(crate) second: &'a [f32],
    pub(crate) c_second: usize,
    pub(crate) prologue: Option<Prologue<'a>>,
    pub(crate) upsampled: bool,
}

impl<'a> Source<'a> {
    /// One slice `[N, H, W, channels]`.
    pub const fn new(x: &'a [f32], channels: usize) -> Self {
        Self {
            first: x,
            c_first: channels,
            second: &[],
            c_second: 0,
            prologue: None,
            upsampled: false,
        }
    }

    /// Two slices `[N, H, W, c_first]` and `[N, H, W, c_second]`, taken as their concatenation
    /// along the channels.
    pub const fn pair(
        first: &'a [f32],
        c_first: usize,
        second: &'a [f32],
        c_second: usize,
    ) -> Self {
        Self { first, c_first, second, c_second, prologue: None, upsampled: false }
    }

    /// The same input behind a prologue.
    pub const fn with_prologue(mut self, prologue: Prologue<'a>) -> Self {
        self.prologue = Some(prologue);
        self
    }

    /// The same input behind a nearest ×2 upsampling: the slices then hold `[N, H/2, W/2, C]` for
    /// the `Pixels` of the call, whose sides must be even.
    pub const fn upsampled(mut self) -> Self {
        self.upsampled = true;
        self
    }

    /// Channels of all parts together.
    pub const fn channels(&self) -> usize {
        self.c_first + self.c_second
    }

    /// # Panics
    /// If a slice has another length than `pixels` and the channels ask for.
    #[track_caller]
    pub(crate) fn check(&self, pixels: Pixels) {
        let stored = pixels.stored(self.upsampled);
        assert_eq!(self.first.len(), length([stored, self.c_first]), "length of the input");
        assert_eq!(
            self.second.len(),
            length([stored, self.c_second]),
            "length of the input's second part"
        );
        if let Some(prologue) = &self.prologue {
            let expected = length([pixels.n, self.channels()]);
            assert_eq!(prologue.scale.len(), expected, "length of the prologue's scale");
            assert_eq!(prologue.shift.len(), expected, "length of the prologue's shift");
        }
    }
}

/// Where the gradient of an input goes: the mirror of [`Source`], without the prologue (whose
/// gradient is that of the normalization).
#[derive(Debug)]
pub struct Sink<'a> {
    pub(crate) first: Destination<'a>,
    pub(crate) c_first: usize,
    pub(crate) second: Destination<'a>,
    pub(crate) c_second: usize,
    pub(crate) upsampled: bool,
    pub(crate) accumulate: bool,
}

impl<'a> Sink<'a> {
    /// One slice `[N, H, W, channels]`, overwritten.
    pub fn new(dx: impl Into<Destination<'a>>, channels: usize) -> Self {
        Self::pair(dx, channels, &mut [], 0)
    }

    /// Two slices `[N, H, W, c_first]` and `[N, H, W, c_second]`, overwritten: the split that is
    /// the gradient of a concatenation.
    pub fn pair(
        first: impl Into<Destination<'a>>,
        c_first: usize,
        second: impl Into<Destination<'a>>,
        c_second: usize,
    ) -> Self {
        let (first, second) = (first.into(), second.into());
        Self { first, c_first, second, c_second, upsampled: false, accumulate: false }
    }

    /// Gradient with respect to the input of the nearest ×2 upsampling before the convolution:
    /// the slices hold `[N, H/2, W/2, C]`, each the sum of four pixels.
    pub fn upsampled(mut self) -> Self {
        self.upsampled = true;
        self
    }

    /// Adds to what the slices hold, where they would be overwritten.
    ///
    /// # Panics
    /// If one of them is an [`crate::Unwritten`] that no kernel has written yet.
    #[track_caller]
    pub fn accumulating(mut self) -> Self {
        assert!(self.first.is_written(), "the gradient is added to before it is written");
        assert!(
            self.second.is_written(),
            "the gradient's second part is added to before it is written"
        );
        self.accumulate = true;
        self
    }

    /// Notes that all parts hold values now.
    ///
    /// # Safety
    /// All of them have been written.
    pub(crate) unsafe fn mark_written(self) {
        // SAFETY: the caller's promise.
        unsafe {
            self.first.mark_written();
            self.second.mark_written();
        }
    }

    /// Channels of all parts together.
    pub fn channels(&self) -> usize {
        self.c_first + self.c_second
    }

    /// # Panics
    /// If a slice has another length than `pixels` and the channels ask for.
    #[track_caller]
    pub(crate) fn check(&self, pixels: Pixels) {
        let stored = pixels.stored(self.upsampled);
        assert_eq!(self.first.len(), length([stored, self.c_first]), "length of the gradient");
        assert_eq!(
            self.second.len(),
            length([stored, self.c_second]),
            "length of the gradient's second part"
        );
    }
}

/// What is added to an output as it is written. The default adds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// `[C_out]`.
    pub bias: Option<&'a [f32]>,
    /// `[N, C_out]`: one bias for every image, such as the projected time embedding.
    pub image_bias: Option<&'a [f32]>,
    /// `[N, H, W, C_out]`, of the output's own shape.
    pub residual: Option<&'a [f32]>,
    /// What the output holds already, which must have been written.
    pub accumulate: bool,
}

impl<'a> Epilogue<'a> {
    /// Only a bias `[C_out]`.
    pub const fn bias(bias: &'a [f32]) -> Self {
        Self { bias: Some(bias), image_bias: None, residual: None, accumulate: false }
    }

    #[track_caller]
    pub(crate) fn check(&self, output: Pixels, c_out: usize, out: &Destination<'_>) {
        assert_eq!(out.len(), length([output.total(), c_out]), "length of the output");
        assert!(
            !self.accumulate || out.is_written(),
            "the output is added to before it is written"
        );
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), c_out, "length of the bias");
        }
        if let Some(image_bias) = self.image_bias {
            assert_eq!(image_bias.len(), length([output.n, c_out]), "length of the per-image bias");
        }
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), length([output.total(), c_out]), "length of the residual");
        }
    }
}

/// Weights of a convolution or linear layer: as they are (training, where they change every step),
/// or prepared once by whoever calls many times (sampling). Both give the same bytes.
#[derive(Debug)]
pub enum Weights<'a, P> {
    /// `[3, 3, C_in, C_out]` or `[C_in, C_out]`.
    Plain(&'a [f32]),
    /// Prepared and owned by the caller.
    Prepared(&'a P),
}

impl<'a, P> Weights<'a, P> {
    /// The same, with what `inner` gives of prepared ones.
    pub(crate) fn map<Q>(self, inner: impl FnOnce(&'a P) -> &'a Q) -> Weights<'a, Q> {
        match self {
            Weights::Plain(weights) => Weights::Plain(weights),
            Weights::Prepared(prepared) => Weights::Prepared(inner(prepared)),
        }
    }
}

impl<P> Clone for Weights<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Weights<'_, P> {}
