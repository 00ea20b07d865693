//! Convolutions behind an upsampling, which never takes place: as four convolutions of the pixels
//! before it.

/// The pixels (2y + row, 2x + column) of an image of twice the sides.
///
/// Behind a nearest ×2 upsampling they depend on the pixels before it by a 3×3 convolution of their
/// own, of which one row and one column are zero: along one side, taps (w0, w1, w2) become
/// (w0, w1 + w2, 0) in phase 0 and (0, w0 + w1, w2) in phase 1. In the Winograd domain a sixth of
/// the planes is zero along either side, so 25 of 36 are left, and as many products as before make
/// four times the pixels with 11 of 36 saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Phase {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Phase {
    /// Number of phases.
    pub(super) const COUNT: usize = 4;

    pub(super) fn new(i: usize) -> Self {
        Phase { row: i / 2, column: i % 2 }
    }

    /// The phase whose taps, turned by 180°, are those of this one with the weights turned.
    pub(super) fn turned(self) -> Self {
        Phase { row: 1 - self.row, column: 1 - self.column }
    }

    /// Whether the weights of a plane are zero.
    pub(super) fn is_zero(self, plane: usize) -> bool {
        // The plane of the point 0 sees the first tap alone, that of ∞ the last.
        let zero = |phase| if phase == 0 { 5 } else { 0 };
        plane / 6 == zero(self.row) || plane % 6 == zero(self.column)
    }
}
