//! Weights in the Winograd domain.
//!
//! Layout: `[panel of 32 output channels][plane][C_in][32]`, planes a little apart so that they do
//! not meet in the same cache sets.

use super::phase::Phase;
use super::transform;
use crate::gemm::PANEL;
use crate::gemm::pack::{Unpacked, pack_panel_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Aligned;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};

/// Planes of the Winograd domain: 6×6.
pub(super) const PLANES: usize = 36;

/// Rows (input channels) of a task.
const ROWS: usize = 16;

/// How the weights at hand are to be used.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    /// As they are: `[3, 3, C_in, C_out]`, from C_in to C_out channels.
    Forward,
    /// Turned by 180° and transposed: from C_out to C_in channels, the data gradient.
    Backward,
}

/// On which side of the weights there are images of twice the sides, taken as four times the
/// channels: one set for every [`Phase`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phases {
    /// On neither: a convolution of the same size.
    None,
    /// On the output's: a convolution behind an upsampling.
    Outputs,
    /// On the input's: the data gradient of such a one, which sums over the phases.
    Inputs,
}

/// The shape of transformed weights that take `c_from` channels to `c_to`, in every phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) c_from: usize,
    pub(super) c_to: usize,
    pub(super) phases: Phases,
}

impl Layout {
    /// Phases of the input.
    pub(super) fn phases_from(self) -> usize {
        if self.phases == Phases::Inputs { Phase::COUNT } else { 1 }
    }

    /// Rows of a plane: input channels of all phases.
    pub(super) fn rows(self) -> usize {
        self.phases_from() * self.c_from
    }

    fn panels_of_phase(self) -> usize {
        self.c_to.div_ceil(PANEL)
    }

    pub(super) fn panels(self) -> usize {
        let phases = if self.phases == Phases::Outputs { Phase::COUNT } else { 1 };
        phases * self.panels_of_phase()
    }

    /// The phase of the output that a panel belongs to, and its first channel there.
    pub(super) fn place(self, panel: usize) -> (Option<Phase>, usize) {
        let (phase, panel) = (panel / self.panels_of_phase(), panel % self.panels_of_phase());
        ((self.phases == Phases::Outputs).then(|| Phase::new(phase)), panel * PANEL)
    }

    /// Whether all weights of a plane are zero, for a phase of the input and a panel.
    pub(super) fn is_zero(self, phase_from: usize, panel: usize, plane: usize) -> bool {
        match self.phases {
            Phases::None => false,
            Phases::Outputs => self.place(panel).0.is_some_and(|phase| phase.is_zero(plane)),
            Phases::Inputs => Phase::new(phase_from).turned().is_zero(plane),
        }
    }

    pub(super) fn plane_stride(self) -> usize {
        self.rows() * PANEL + 16
    }

    pub(super) fn panel_stride(self) -> usize {
        PLANES * self.plane_stride()
    }

    pub(super) fn len(self) -> usize {
        self.panels() * self.panel_stride()
    }
}

/// What a convolution gets: weights that are transformed already, or that it has to transform.
#[derive(Clone, Copy)]
pub(super) enum Taps<'a> {
    /// In the Winograd domain.
    Transformed(&'a Aligned),
    /// `[3, 3, C_in, C_out]`.
    Plain(&'a [f32], Direction),
}

/// Transforms all weights into `to`, on all threads.
///
/// # Safety
/// The level is available; `to` has room for `layout.len()`; `weights` has
/// `9 · c_from · c_to` values.
pub(super) unsafe fn transform_weights(
    level: SimdLevel,
    weights: &[f32],
    layout: Layout,
    direction: Direction,
    to: *mut f32,
) {
    debug_assert_eq!(weights.len(), 9 * layout.c_from * layout.c_to);
    let to = Shared::new(to);
    let chunks = layout.c_from.div_ceil(ROWS);
    for_each_task(layout.panels() * layout.phases_from() * chunks, |task| {
        let (panel, phase_from) =
            (task / chunks / layout.phases_from(), task / chunks % layout.phases_from());
        // SAFETY: the caller's promise, and every task writes rows of its own.
        unsafe {
            let first = task % chunks * ROWS;
            let row = phase_from * layout.c_from + first;
            let kernel = TransformWeights {
                weights,
                layout,
                direction,
                panel,
                phase_from,
                rows: (first, ROWS.min(layout.c_from - first)),
                to: to.get().add(panel * layout.panel_stride() + row * PANEL),
                plane_stride: layout.plane_stride(),
            };
            dispatch(level, kernel);
        }
    });
}

/// Transforms some panels and rows (first, number) of a phase of the input into `to`, on this
/// thread.
///
/// # Safety
/// As [`transform_weights`], with room for the [`Layout`] of these rows and panels alone.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn transform_part(
    level: SimdLevel,
    weights: &[f32],
    layout: Layout,
    direction: Direction,
    panels: (usize, usize),
    phase_from: usize,
    rows: (usize, usize),
    to: *mut f32,
) {
    let part = Layout { c_from: rows.1, c_to: panels.1 * PANEL, phases: Phases::None };
    for panel in 0..panels.1 {
        for first in (0..rows.1).step_by(ROWS) {
            let kernel = TransformWeights {
                weights,
                layout,
                direction,
                panel: panels.0 + panel,
                phase_from,
                rows: (rows.0 + first, ROWS.min(rows.1 - first)),
                to: to.wrapping_add(panel * part.panel_stride() + first * PANEL),
                plane_stride: part.plane_stride(),
            };
            // SAFETY: the caller's promise.
            unsafe { dispatch(level, kernel) };
        }
    }
}

/// Some rows (first, number; at most [`ROWS`]) of one panel.
struct TransformWeights<'a> {
    weights: &'a [f32],
    /// Of all weights.
    layout: Layout,
    direction: Direction,
    panel: usize,
    phase_from: usize,
    rows: (usize, usize),
    /// The first row in the first plane.
    to: *mut f32,
    plane_stride: usize,
}

impl Kernel for TransformWeights<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn run<S: Simd>(self) {
        let Layout { c_from, c_to, phases } = self.layout;
        let (phase, first_channel) = self.layout.place(self.panel);
        let phase = match phases {
            Phases::Inputs => Some(Phase::new(self.phase_from).turned()),
            Phases::None | Phases::Outputs => phase,
        };
        let width = (c_to - first_channel).min(PANEL);
        let mut turned = [0.0f32; 9 * ROWS * PANEL];
        let weights = self.weights.as_ptr();
        // SAFETY: rows and panel lie within the layout.
        unsafe {
            // Where row k of a tap starts, and the steps between rows and taps.
            let (mut from, row_stride, tap_stride) = match self.direction {
                Direction::Forward => {
                    (weights.add(self.rows.0 * c_to + first_channel), c_to, c_from * c_to)
                }
                Direction::Backward => {
                    for tap in 0..9 {
                        let matrix = Unpacked {
                            at: weights.add(tap * c_from * c_to + self.rows.0),
                            stride: c_from,
                            depth: self.rows.1,
                            columns: c_to,
                            first: first_channel,
                        };
                        let to = turned.as_mut_ptr().add((8 - tap) * ROWS * PANEL);
                        pack_panel_transposed::<S>(to, matrix);
                    }
                    (turned.as_ptr(), PANEL, ROWS * PANEL)
                }
            };
            for row in 0..self.rows.1 {
                let mut column = 0;
                while column < PANEL {
                    let lanes = width.saturating_sub(column).min(S::LANES);
                    let mut taps = [[S::splat(0.0); 3]; 3];
                    for (ky, taps) in taps.iter_mut().enumerate() {
                        for (kx, tap) in taps.iter_mut().enumerate() {
                            let from = from.wrapping_add((ky * 3 + kx) * tap_stride + column);
                            if lanes == S::LANES {
                                *tap = S::load(from);
                            } else if lanes > 0 {
                                *tap = S::load_part(from, lanes);
                            }
                        }
                    }
                    if let Some(phase) = phase {
                        taps = transform::phase::<S>(phase, taps);
                    }
                    let along_x = [
                        transform::weights::<S>(taps[0]),
                        transform::weights::<S>(taps[1]),
                        transform::weights::<S>(taps[2]),
                    ];
                    let to = self.to.add(row * PANEL + column);
                    for j in 0..6 {
                        let planes =
                            transform::weights::<S>([along_x[0][j], along_x[1][j], along_x[2][j]]);
                        for (i, &value) in planes.iter().enumerate() {
                            S::store(to.add((i * 6 + j) * self.plane_stride), value);
                        }
                    }
                    column += S::LANES;
                }
                from = from.wrapping_add(row_stride);
            }
        }
    }
}
