//! Weights of gathered convolutions, in the panels that the matrix product reads.

use crate::gemm::BLOCK;
use crate::gemm::PANEL;
use crate::gemm::pack::{Unpacked, pack_panel, pack_panel_transposed};
use crate::parallel::{Shared, for_each_task};
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};

/// The shape of packed weights: `taps` matrices `[c_from, c_to]`, each in panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackedLayout {
    pub taps: usize,
    pub c_from: usize,
    pub c_to: usize,
}

impl PackedLayout {
    pub fn panels(self) -> usize {
        self.c_to.div_ceil(PANEL)
    }

    pub fn panel_stride(self) -> usize {
        self.c_from * PANEL + BLOCK
    }

    pub fn tap_stride(self) -> usize {
        self.panels() * self.panel_stride()
    }

    pub fn len(self) -> usize {
        self.taps * self.tap_stride()
    }
}

/// Packs weights `[taps, c_from, c_to]`, or with `transposed` `[taps, c_to, c_from]`.
///
/// # Safety
/// The level is available, `weights` has that length, and `to` has room for the layout.
pub unsafe fn pack_weights(
    level: SimdLevel,
    weights: &[f32],
    layout: PackedLayout,
    transposed: bool,
    to: *mut f32,
) {
    let to = Shared::new(to);
    for_each_task(layout.taps * layout.panels(), |task| {
        let (tap, panel) = (task / layout.panels(), task % layout.panels());
        let kernel = PackPanel {
            weights: &weights[tap * layout.c_from * layout.c_to..],
            layout,
            transposed,
            panel,
            // SAFETY: the caller's promise.
            to: unsafe { to.get().add(tap * layout.tap_stride() + panel * layout.panel_stride()) },
        };
        // SAFETY: the caller's promise; each task has a panel of its own.
        unsafe { dispatch(level, kernel) };
    });
}

struct PackPanel<'a> {
    weights: &'a [f32],
    layout: PackedLayout,
    transposed: bool,
    panel: usize,
    to: *mut f32,
}

impl Kernel for PackPanel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (from, first) = (self.weights.as_ptr(), self.panel * PANEL);
        let PackedLayout { c_from, c_to, .. } = self.layout;
        // SAFETY: the weights hold the matrix, and `to` the panel.
        unsafe {
            let stride = if self.transposed { c_from } else { c_to };
            let matrix = Unpacked { at: from, stride, depth: c_from, columns: c_to, first };
            if self.transposed {
                pack_panel_transposed::<S>(self.to, matrix);
            } else {
                pack_panel::<S>(self.to, matrix);
            }
        }
    }
}
