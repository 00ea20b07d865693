//! Pictures on disk, made ready for training: from a folder of whatever the user downloaded to
//! batches in a fixed order.
//!
//! [`prepare()`] turns raw pictures into a clean folder of equal-sized PNGs or into tar archives of
//! them, [`Folder`] holds such a folder as bytes, in memory or in a file ([`CacheConfig`]), [`SplitConfig`] parts it into training, validation and test pictures,
//! and [`Loader`] deals out training batches.
//!
//! Whatever depends on chance here is a pure function of content, seed and position: the split of
//! a picture depends on its pixels, the order of an epoch on the contents of the folder, the seed
//! and the epoch number. Neither file names, nor the number of threads, nor the order in which a
//! disk answers play a part, so that a resumed run sees exactly what an uninterrupted one does.
//!
//! It refuses to know the model, the framework and the terminal: it yields [`Images`]
//! (`[N, C, H, W]`, nominal range `[-1, 1]`) and reports progress to whoever asks.
//!
//! [`Images`]: crate::images::Images

mod archives;
mod cache;
mod decode;
mod fit;
mod folder;
mod journal;
mod kinds;
mod loader;
mod names;
mod output;
mod pack;
mod pixels;
mod prepare;
mod report;
mod resample;
mod scan;
mod size;
mod split;
mod tags;
mod tar;
#[cfg(test)]
mod tests;

pub use cache::{Cache, CacheConfig};
pub use decode::{DecodeError, MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE, Picture};
pub use fit::Fit;
pub use folder::Folder;
pub use kinds::is_collection;
pub use loader::{Batch, Loader, LoaderConfig};
pub use pixels::FolderPicture;
pub use prepare::{PrepareConfig, prepare};
pub use report::{Duplicate, PrepareReport, REPORT_FILE, Skipped};
pub use size::{common_size, usual_side};
pub use split::{Split, SplitConfig, SplitIndices};
pub use tags::{Classes, Tags};
