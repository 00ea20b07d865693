//! The products of gathered pixels with weights.

use super::gather::gather;
use super::weights::PackedLayout;
use super::window::Window;
use crate::Source;
use crate::gemm::{BLOCK, Blocked, PANEL, Product, RowMajor, multiply};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch, lanes};

/// Rows of a task.
const TASK_ROWS: usize = 56;

/// `output = gathered source · weights`, for all rows of the window.
///
/// # Safety
/// The level is available; the source fits the window's input and has `layout.c_from` channels; the
/// packed weights have the layout, with all taps of `[3, 3]` or one; the output fits the window.
pub unsafe fn multiply_gathered(
    level: SimdLevel,
    window: Window,
    source: &Source<'_>,
    weights: *const f32,
    layout: PackedLayout,
    output: &Output<'_>,
) {
    let weights = Shared::new(weights.cast_mut());
    let n_rows = window.rows();
    if is_direct(level, window, source, layout) {
        let tasks = n_rows.div_ceil(DIRECT_ROWS);
        return for_each_task(tasks, |task| {
            let first = task * n_rows / tasks;
            let rows = (first, (task + 1) * n_rows / tasks - first);
            let weights = weights.get();
            let kernel = MultiplyDirect { window, source, weights, layout, output, rows };
            // SAFETY: the caller's promise; each task has rows of its own.
            unsafe { dispatch(level, kernel) };
        });
    }
    // Few rows are dealt out by panels too, so that all threads have work.
    let row_tasks = n_rows.div_ceil(TASK_ROWS);
    let panel_tasks =
        if row_tasks < 2 * rayon::current_num_threads() { layout.panels() } else { 1 };
    for_each_task(row_tasks * panel_tasks, |task| {
        let (row_task, panel_task) = (task / panel_tasks, task % panel_tasks);
        let first = row_task * n_rows / row_tasks;
        let rows = (first, (row_task + 1) * n_rows / row_tasks - first);
        let first = panel_task * layout.panels() / panel_tasks;
        let panels = (first, (panel_task + 1) * layout.panels() / panel_tasks - first);
        let tap_len = rows.1 * layout.c_from.next_multiple_of(BLOCK);
        let mut gathered = Scratch::new(window.taps() * tap_len);
        let mut products = Scratch::new(rows.1 * PANEL);
        let kernel = MultiplyRows {
            window,
            source,
            weights: weights.get(),
            layout,
            output,
            rows,
            panels,
            gathered: gathered.as_mut_ptr(),
            products: products.as_mut_ptr(),
        };
        // SAFETY: the caller's promise; each task has rows and panels of its own.
        unsafe { dispatch(level, kernel) };
    });
}

/// Rows of a task of [`MultiplyDirect`], and of its register tile.
const DIRECT_ROWS: usize = 96;
const DIRECT_TILE_ROWS: usize = 6;
/// The most input channels of a direct product: the weights of its columns should stay in the first
/// cache while the rows go by.
const DIRECT_CHANNELS: usize = 256;

/// Whether rows can be multiplied where they lie: pixels as they are, by vectors of 16, and enough
/// of them for all threads.
fn is_direct(level: SimdLevel, window: Window, source: &Source<'_>, layout: PackedLayout) -> bool {
    lanes(level) == BLOCK
        && matches!(window, Window::Pointwise(_))
        && source.prologue.is_none()
        && !source.upsampled
        && layout.c_to.is_multiple_of(2 * PANEL)
        && layout.c_from <= DIRECT_CHANNELS
        && window.rows() >= 2 * DIRECT_TILE_ROWS * rayon::current_num_threads()
}

/// A product whose left operand is read where it lies, for [`is_direct`]: nothing is gathered, and
/// results are written from the registers. Its chains of multiply-adds are those of [`multiply`].
struct MultiplyDirect<'a> {
    window: Window,
    source: &'a Source<'a>,
    weights: *const f32,
    layout: PackedLayout,
    output: &'a Output<'a>,
    /// First and number.
    rows: (usize, usize),
}

impl Kernel for MultiplyDirect<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (first, n_rows) = self.rows;
        let n_tiles = n_rows.div_ceil(DIRECT_TILE_ROWS);
        for panel in (0..self.layout.panels()).step_by(2) {
            let mut row = 0;
            for tile in 0..n_tiles {
                let height = (n_rows - row).div_ceil(n_tiles - tile);
                // SAFETY: the caller of `dispatch` promises the rows, and both panels.
                unsafe {
                    match height {
                        1 => self.tile::<S, 1>(first + row, panel),
                        2 => self.tile::<S, 2>(first + row, panel),
                        3 => self.tile::<S, 3>(first + row, panel),
                        4 => self.tile::<S, 4>(first + row, panel),
                        5 => self.tile::<S, 5>(first + row, panel),
                        _ => self.tile::<S, DIRECT_TILE_ROWS>(first + row, panel),
                    }
                }
                row += height;
            }
        }
    }
}

impl MultiplyDirect<'_> {
    /// Some rows by two panels.
    ///
    /// # Safety
    /// S is available, with vectors of a block; the rows and panels exist.
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize>(&self, row: usize, panel: usize) {
        let Source { first, c_first, second, c_second, .. } = *self.source;
        // SAFETY: the caller's promise.
        unsafe {
            let left = self.weights.add(panel * self.layout.panel_stride());
            let panels = [left, left.add(self.layout.panel_stride())];
            let sums = [[S::splat(0.0); 4]; ROWS];
            let from = first.as_ptr().wrapping_add(row * c_first);
            let sums = accumulated::<S, ROWS>(sums, c_first, from, panels);
            let from = second.as_ptr().wrapping_add(row * c_second);
            let panels = panels.map(|panel| panel.wrapping_add(c_first * PANEL));
            let sums = accumulated::<S, ROWS>(sums, c_second, from, panels);
            let channel = panel * PANEL;
            let in_order = !self.output.has_image_bias();
            for (i, sums) in sums.iter().enumerate() {
                let row = row + i;
                let image = if in_order { 0 } else { self.window.place(row).0 };
                for (j, &sum) in sums.iter().enumerate() {
                    let channel = channel + j * BLOCK;
                    let bias = self.output.bias::<S>(image, channel, BLOCK);
                    self.output.write::<S>(row, channel, BLOCK, S::add(sum, bias));
                }
            }
        }
    }
}

/// The sums of some rows of `channels` values by two panels, added to what they were.
///
/// # Safety
/// S is available, with vectors of a block; the rows and panels exist.
#[inline(always)]
unsafe fn accumulated<S: Simd, const ROWS: usize>(
    mut sums: [[S::V; 4]; ROWS],
    channels: usize,
    from: *const f32,
    [left, right]: [*const f32; 2],
) -> [[S::V; 4]; ROWS] {
    // SAFETY: the caller's promise.
    unsafe {
        for k in 0..channels {
            let (left, right) = (left.add(k * PANEL), right.add(k * PANEL));
            let b = [
                S::load(left),
                S::load(left.add(BLOCK)),
                S::load(right),
                S::load(right.add(BLOCK)),
            ];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = S::splat(*from.add(i * channels + k));
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = S::fma(a, b, *sum);
                }
            }
        }
    }
    sums
}

struct MultiplyRows<'a> {
    window: Window,
    source: &'a Source<'a>,
    weights: *const f32,
    layout: PackedLayout,
    output: &'a Output<'a>,
    rows: (usize, usize),
    panels: (usize, usize),
    gathered: *mut f32,
    products: *mut f32,
}

impl Kernel for MultiplyRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (window, layout, rows) = (self.window, self.layout, self.rows);
        let tap_len = rows.1 * layout.c_from.next_multiple_of(BLOCK);
        // SAFETY: the working memory has room for rows, taps and one panel.
        unsafe {
            for tap in 0..window.taps() {
                gather::<S>(
                    window,
                    self.source,
                    rows,
                    tap,
                    self.gathered.add(tap * tap_len),
                    rows.1,
                );
            }
            for panel in self.panels.0..self.panels.0 + self.panels.1 {
                let columns = (layout.c_to - panel * PANEL).min(PANEL);
                for tap in 0..window.taps() {
                    let weights = self.weights.add(
                        window.weight_tap(tap) * layout.tap_stride()
                            + panel * layout.panel_stride(),
                    );
                    let gathered = self.gathered.add(tap * tap_len);
                    multiply::<S>(Product {
                        rows: rows.1,
                        depth: layout.c_from,
                        columns,
                        a: Blocked { at: gathered, block_stride: rows.1 * BLOCK },
                        b: weights,
                        c: RowMajor { at: self.products, stride: PANEL },
                        accumulate: tap > 0,
                    });
                }
                self.write_panel::<S>(panel * PANEL, columns);
            }
        }
    }
}

impl MultiplyRows<'_> {
    /// Writes the products of one panel, `columns` channels from `first_channel` on.
    ///
    /// # Safety
    /// S is available; the products are there, and the output has the rows and channels.
    #[inline(always)]
    unsafe fn write_panel<S: Simd>(&self, first_channel: usize, columns: usize) {
        let (window, rows) = (self.window, self.rows);
        // The place of a row takes divisions, which are as slow as its products: where rows are
        // pixels in order and all images have one bias, it is not needed.
        let in_order = matches!(window, Window::Pointwise(_)) && !self.output.has_image_bias();
        for row in 0..rows.1 {
            let (image, pixel) = if in_order {
                (0, rows.0 + row)
            } else {
                (window.place(rows.0 + row).0, window.output_pixel(rows.0 + row))
            };
            let mut column = 0;
            while column < columns {
                let lanes = (columns - column).min(S::LANES);
                let channel = first_channel + column;
                // SAFETY: the caller's promise.
                unsafe {
                    let product = S::load(self.products.add(row * PANEL + column));
                    let bias = self.output.bias::<S>(image, channel, lanes);
                    self.output.write::<S>(pixel, channel, lanes, S::add(product, bias));
                }
                column += lanes;
            }
        }
    }
}
