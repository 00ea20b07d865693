//! The convolution by way of the Winograd domain; the data gradient is one too.
//!
//! Two schedules give the same bytes, so the choice may depend on the batch and the threads:
//! - *local*: a task takes a few rows of tiles all the way, everything in its own cache. For many
//!   tiles, or weights that fit the cache beside them.
//! - *shared*: all tasks transform a group of tiles; then each takes some tiles and output channels
//!   through products and inverse transform. Large weights are read once for many tiles.

use super::tiles::prefetch_tile;
use super::tiles::{
    Group, Tiling, TransformInput, TransformOutput, product_plane_stride, strip_len,
};
use super::weights::{Layout, PLANES, Taps, transform_panel, transform_weights};
use crate::gemm::{BLOCK, PANEL, multiply};
use crate::output::Output;
use crate::parallel::{Shared, for_each_task};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, SimdLevel, dispatch};
use crate::{Pixels, Source};

/// Tiles of a task of the local schedule.
const LOCAL_TILES: usize = 24;
/// The most transformed weights that the local schedule reads anew for so few tiles, in f32. Larger
/// ones want [`MANY_TILES`].
const LOCAL_WEIGHTS: usize = 1_200_000;
const MANY_TILES: usize = 384;
/// The fewest tiles that a task of the local schedule is worth.
const FEW_TILES: usize = 8;
/// The most transformed inputs of a group of the shared schedule, in f32.
const SHARED_INPUTS: usize = 2_400_000;
/// The most tiles of a task of the shared schedule; it takes one panel.
const SHARED_TILES: usize = 128;

/// The number of tasks of the local schedule, if it suits.
fn local_tasks(tiling: Tiling, layout: Layout) -> Option<usize> {
    let (tiles, threads) = (tiling.rows() * tiling.wide, rayon::current_num_threads());
    if PLANES * layout.c_from * layout.c_to > LOCAL_WEIGHTS && tiles < MANY_TILES {
        return None;
    }
    let mut tasks = tiles.div_ceil(LOCAL_TILES);
    if tasks < 4 * threads {
        // So few that they should be dealt out evenly.
        tasks = tasks.next_multiple_of(threads);
    }
    let tasks = tasks.min(tiling.rows());
    (threads == 1 || tiles >= FEW_TILES * tasks && tasks >= threads).then_some(tasks)
}

/// Convolves.
///
/// # Safety
/// The level is available; the source fits the pixels and has `layout.c_from` channels; `weights`
/// fits the layout; the output fits the pixels and has `layout.c_to` channels.
pub(super) unsafe fn convolve(
    level: SimdLevel,
    pixels: Pixels,
    source: &Source<'_>,
    weights: Taps<'_>,
    layout: Layout,
    output: &Output<'_>,
) {
    let tiling = Tiling::new(pixels);
    // Weights of which each panel is used by one task only are best transformed there.
    let mut all_weights = None;
    let transform_all = |memory: &mut Option<Scratch>| match weights {
        Taps::Transformed(weights) => Shared::new(weights.as_ptr().cast_mut()),
        Taps::Plain(weights, direction) => {
            let to = memory.insert(Scratch::new(layout.len())).as_mut_ptr();
            // SAFETY: the caller's promise, and there is room for the layout.
            unsafe { transform_weights(level, weights, layout, direction, to) };
            Shared::new(to)
        }
    };
    if let Some(tasks) = local_tasks(tiling, layout) {
        let weights = transform_all(&mut all_weights);
        for_each_task(tasks, |task| {
            let first_row = task * tiling.rows() / tasks;
            let n_rows = (task + 1) * tiling.rows() / tasks - first_row;
            let group = Group { tiles: n_rows * tiling.wide, channels: layout.c_from };
            let mut inputs = Scratch::new(group.len());
            let mut strip = Scratch::new(strip_len(tiling, layout.c_from));
            let rows = (first_row, n_rows);
            // SAFETY: the caller's promise; the memory is of the lengths asked for.
            unsafe {
                dispatch(
                    level,
                    TransformInput {
                        tiling,
                        source,
                        rows,
                        group,
                        to: inputs.as_mut_ptr(),
                        first_tile: 0,
                        strip: strip.as_mut_ptr(),
                    },
                );
                drop(strip);
                multiply_and_transform(
                    level,
                    tiling,
                    Part {
                        inputs: inputs.as_mut_ptr(),
                        group,
                        first_of_group: first_row * tiling.wide,
                        tiles: (0, group.tiles),
                        panels: (0, layout.panels()),
                    },
                    weights.get(),
                    layout,
                    output,
                );
            }
        });
        return;
    }

    let per_row = PLANES * tiling.wide * layout.c_from;
    let n_groups = (per_row * tiling.rows()).div_ceil(SHARED_INPUTS).clamp(1, tiling.rows().max(1));
    let mut ready = None;
    let mut first_row = 0;
    for i in 0..n_groups {
        let n_rows = (tiling.rows() - first_row).div_ceil(n_groups - i);
        let group = Group { tiles: n_rows * tiling.wide, channels: layout.c_from };
        let mut inputs = Scratch::new(group.len());
        let inputs = Shared::new(inputs.as_mut_ptr());
        for_each_task(n_rows, |row| {
            let mut strip = Scratch::new(strip_len(tiling, layout.c_from));
            let kernel = TransformInput {
                tiling,
                source,
                rows: (first_row + row, 1),
                group,
                to: inputs.get(),
                first_tile: row * tiling.wide,
                strip: strip.as_mut_ptr(),
            };
            // SAFETY: the caller's promise; the memory is of the lengths asked for.
            unsafe { dispatch(level, kernel) };
        });
        let n_panels = layout.panels();
        // More parts where there are many threads, unless they become too small.
        let n_tile_parts = (2 * rayon::current_num_threads())
            .div_ceil(n_panels)
            .min(group.tiles / FEW_TILES)
            .max(group.tiles.div_ceil(SHARED_TILES));
        let in_task = match weights {
            Taps::Plain(weights, direction) if n_groups * n_tile_parts == 1 => {
                Some((weights, direction))
            }
            _ => None,
        };
        if in_task.is_none() && ready.is_none() {
            ready = Some(transform_all(&mut all_weights));
        }
        for_each_task(n_tile_parts * n_panels, |task| {
            let (panel, tile_part) = (task / n_tile_parts, task % n_tile_parts);
            let first_tile = tile_part * group.tiles / n_tile_parts;
            let end_tile = (tile_part + 1) * group.tiles / n_tile_parts;
            let part = Part {
                inputs: inputs.get(),
                group,
                first_of_group: first_row * tiling.wide,
                tiles: (first_tile, end_tile - first_tile),
                panels: (panel, 1),
            };
            let mut memory =
                Scratch::new(if in_task.is_some() { layout.panel_stride() } else { 0 });
            // SAFETY: the caller's promise; each task has tiles and a panel of its own.
            unsafe {
                let weights = match (in_task, ready) {
                    (Some((weights, direction)), _) => {
                        let to = memory.as_mut_ptr();
                        transform_panel(level, weights, layout, direction, panel, to);
                        // As if all panels were there.
                        to.wrapping_sub(panel * layout.panel_stride())
                    }
                    (None, Some(ready)) => ready.get(),
                    (None, None) => unreachable!("transformed before the tasks"),
                };
                multiply_and_transform(level, tiling, part, weights, layout, output);
            }
        });
        first_row += n_rows;
    }
}

/// Some tiles of a transformed group, and some panels of output channels.
#[derive(Clone, Copy)]
struct Part {
    inputs: *const f32,
    group: Group,
    /// The place of the group's first tile in the batch.
    first_of_group: usize,
    /// First in the group, and number.
    tiles: (usize, usize),
    panels: (usize, usize),
}

/// Products of all planes, inverse transform, output.
///
/// # Safety
/// As [`convolve`], and the part exists.
unsafe fn multiply_and_transform(
    level: SimdLevel,
    tiling: Tiling,
    part: Part,
    weights: *const f32,
    layout: Layout,
    output: &Output<'_>,
) {
    let mut products = Scratch::new(PLANES * product_plane_stride(part.tiles.1));
    for panel in part.panels.0..part.panels.0 + part.panels.1 {
        // SAFETY: the caller's promise; there is room for the products.
        unsafe {
            let to = products.as_mut_ptr();
            dispatch(level, Multiply { tiling, output, part, panel, weights, layout, to });
            let kernel = TransformOutput {
                tiling,
                output,
                tiles: (part.first_of_group + part.tiles.0, part.tiles.1),
                first_channel: panel * PANEL,
                from: to,
            };
            dispatch(level, kernel);
        }
    }
}

/// The matrix products of all planes of a part and one panel.
struct Multiply<'a> {
    tiling: Tiling,
    output: &'a Output<'a>,
    part: Part,
    panel: usize,
    weights: *const f32,
    layout: Layout,
    /// `[plane][tile][PANEL]`.
    to: *mut f32,
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Part { inputs, group, tiles, .. } = self.part;
        let first_channel = self.panel * PANEL;
        let width = (self.layout.c_to - first_channel).min(PANEL);
        let first_tile = self.part.first_of_group + tiles.0;
        for plane in 0..PLANES {
            // SAFETY: plane, panel and tiles exist in inputs, weights and products.
            unsafe {
                // Meanwhile the places of the results come into the cache, some with every plane.
                if !self.output.upsampled {
                    for i in tiles.1 * plane / PLANES..tiles.1 * (plane + 1) / PLANES {
                        let (tile, output) = (first_tile + i, self.output);
                        prefetch_tile::<S>(self.tiling, output, tile, first_channel, width);
                    }
                }
                let weights =
                    self.panel * self.layout.panel_stride() + plane * self.layout.plane_stride();
                multiply::<S>(
                    tiles.1,
                    self.layout.c_from,
                    width,
                    inputs.add(plane * group.plane_stride() + tiles.0 * BLOCK),
                    group.block_stride(),
                    // The panels before this one need not be there.
                    self.weights.wrapping_add(weights),
                    self.to.add(plane * product_plane_stride(tiles.1)),
                    PANEL,
                    false,
                );
            }
        }
    }
}
