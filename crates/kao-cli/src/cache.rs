//! The arguments of every command that takes more pictures than memory may hold.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kao::dataset::Cache;
use std::path::PathBuf;

/// Where pictures are kept while they are used.
#[derive(Args)]
pub struct CacheArguments {
    /// Where the pictures are kept at the size of the model: in memory, in a file on disk that is read
    /// ahead, or whichever fits. Results are the same
    #[arg(long, value_name = "WHERE", default_value = "auto", value_parser = cache())]
    pub cache: Cache,
    /// Folder for that file [default: kao in the folder of caches, such as ~/.cache/kao]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

fn cache() -> impl TypedValueParser<Value = Cache> {
    PossibleValuesParser::new(Cache::ALL.iter().map(|cache| cache.name()))
        .try_map(|name| name.parse::<Cache>())
}
