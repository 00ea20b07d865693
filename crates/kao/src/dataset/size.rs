//! The size that the pictures of a folder have as they are.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::decode::Picture;
use super::scan::scan;
use crate::control::{Control, Report};
use crate::error::{Error, Result};

/// The shorter side, in pixels, that pictures in `dir` and the folders below it usually have: the
/// median of a sample of them, spread over the folder. Files that yield no picture are passed over;
/// where all of the sample do, there is none.
///
/// # Errors
/// When `dir` cannot be read.
pub fn usual_side(dir: &Path) -> Result<Option<usize>> {
    const N_SAMPLED: usize = 32;
    let found = scan(dir)?.pictures;
    let every = found.len().div_ceil(N_SAMPLED).max(1);
    let sampled: Vec<_> = found.iter().step_by(every).collect();
    let sides = sampled.par_iter().filter_map(|found| {
        let side = |picture: Picture| picture.height().min(picture.width()) as usize;
        found.read_with(side).ok()
    });
    let mut sides: Vec<usize> = sides.collect();
    sides.sort_unstable();
    Ok(sides.get(sides.len() / 2).copied())
}

/// Height and width that all pictures in `dir` and the folders below it have in common. Files that
/// yield no picture are passed over.
///
/// # Errors
/// When `dir` cannot be read, holds no usable picture, or two of different sizes; when `control` stops
/// the work.
pub fn common_size(dir: &Path, control: &dyn Control) -> Result<[usize; 2]> {
    let found = scan(dir)?.pictures;
    let (n_done, total) = (AtomicU64::new(0), Some(found.len() as u64));
    let sizes: Vec<Option<[usize; 2]>> = found
        .par_iter()
        .map(|found| {
            let size = |picture: Picture| [picture.height(), picture.width()];
            let size = found.read_with(size).ok();
            let done = n_done.fetch_add(1, Ordering::Relaxed) + 1;
            control.check(&Report::progress("measuring pictures", done, total, "pictures"))?;
            Ok(size.map(|size| size.map(|side| side as usize)))
        })
        .collect::<Result<_>>()?;
    let mut sized = found.iter().zip(sizes).filter_map(|(found, size)| Some((found, size?)));
    let Some((first, size)) = sized.next() else {
        return Err(Error::malformed(dir, "holds no picture that can be used"));
    };
    match sized.find(|(_, other)| *other != size) {
        None => Ok(size),
        Some((other, [height, width])) => Err(Error::malformed(
            dir,
            format!(
                "`{}` has {} × {} pixels, `{}` {height} × {width}; expected pictures of one size",
                first.relative, size[0], size[1], other.relative
            ),
        )
        .with_hint("`kao prepare` makes them one size")),
    }
}
