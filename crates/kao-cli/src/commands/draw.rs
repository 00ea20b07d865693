//! `kao draw`

use crate::compute::set_threads;
use crate::output::result;
use crate::progress::Terminal;
use crate::shard::ShardArgument;
use clap::Args;
use kao::Result;
use kao::quantities::counted;
use kao::requests::{Draw, Drawn, Request};
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao draw --count 2000 --out faces
  kao draw --count 20 --out large --size 256 --seed 7
  kao draw --count 2000 --out faces --shard 0/4        a quarter of them, by itself or beside others")]
pub struct Arguments {
    /// How many faces
    #[arg(long, short = 'n', value_name = "N")]
    count: u64,
    /// Folder to write them to
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Side in pixels, 16 to 512
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    size: u32,
    /// Picture k of a seed is always the same
    #[arg(long, default_value_t = 999)]
    seed: u64,
    #[command(flatten)]
    shard: ShardArgument,
    /// Threads; by default one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Arguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Result<Draw> {
        let Arguments { count, ref out, size, seed, threads, .. } = *self;
        let shard = self.shard.request()?;
        Ok(Draw { count, out: out.clone(), size, seed, shard, threads })
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let request = arguments.request()?;
    set_threads(request.threads)?;
    let terminal = Terminal::default();
    let Drawn { written, folder } = request.run(&terminal)?;
    terminal.clear();
    let kept = match written.kept {
        0 => String::new(),
        kept => format!(", {kept} were there"),
    };
    let replaced = match written.replaced {
        0 => String::new(),
        replaced => format!(" ({replaced} in place of broken or older ones)"),
    };
    let drawn = counted(written.drawn, "face");
    result(format!("{drawn} drawn{replaced}{kept}: {}", folder.display()))
}
