//! The program `kao`: arguments in, calls to the library, files and words out.
//!
//! What is computed is in the library. Here is what a user types (one file per command), what they
//! see while they wait, and how failure is told: one `error:` line, a `hint:` line where there is
//! one, exit code 1 for what failed, 2 for wrong usage, 130 for what was interrupted.

mod cache;
mod commands;
mod compute;
mod interrupt;
mod output;
mod pictures;
mod progress;
mod ranks;
mod sampling;
mod shard;
mod usage;
mod wishes;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use kao::ErrorKind;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "kao", version, about = ABOUT, long_about = LONG_ABOUT, max_term_width = 100)]
struct Arguments {
    /// Say nothing but results, warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const ABOUT: &str = "Train and sample diffusion models of small images";

const LONG_ABOUT: &str = "\
Kao (顔, \"face\") trains and samples diffusion models of small images on a CPU: DDPM, DDIM
and DPM-Solver++.

The shortest way to a picture, with nothing but this program:
  kao sample
And to one of a model of your own:
  kao draw --count 2000 --out faces
  kao train --data faces --out run --preset tiny
  kao sample --model run";

#[derive(Subcommand)]
enum Command {
    /// Make a folder of pictures ready for training
    Prepare(commands::prepare::Arguments),
    /// Draw a folder of anime-style faces to train on
    Draw(commands::draw::Arguments),
    /// Train a model on a folder of pictures
    Train(Box<commands::train::Arguments>),
    /// Sample images from a model
    Sample(Box<commands::sample::Arguments>),
    /// Vary pictures, or paint a part of them anew
    Edit(Box<commands::edit::Arguments>),
    /// Sample images on the way from one image to the next
    Interpolate(Box<commands::interpolate::Arguments>),
    /// Noise real pictures part of the way and recover them
    Recover(commands::recover::Arguments),
    /// Find the noise from which a model makes given pictures
    Encode(commands::encode::Arguments),
    /// Compare samplers, steps and η side by side, on a page with a chart
    Compare(commands::compare::Arguments),
    /// Make every published steps × η run, with an index page
    Sweep(commands::sweep::Arguments),
    /// Measure how far samples are from real pictures, and whether they copy
    Eval(Box<commands::eval::Arguments>),
    /// Convert a model to or from another format
    Convert(commands::convert::Arguments),
    /// Fetch a model from a hub
    Fetch(commands::fetch::Arguments),
    /// Tell what is in a model, checkpoint, run directory or picture
    Info(commands::info::Arguments),
    /// Measure a forward pass and a training step on this machine
    Bench(commands::bench::Arguments),
    /// Open Kao in the browser
    #[cfg(feature = "studio")]
    Studio(commands::studio::Arguments),
    /// Open Kao in the browser: this build has no pages
    #[cfg(not(feature = "studio"))]
    #[command(hide = true)]
    Studio(commands::no_studio::Arguments),
    /// Print completions of commands and flags for a shell
    Completions(commands::completions::Arguments),
    /// Print the manual page
    Man,
}

fn parser() -> clap::Command {
    // So that `--eta -1` is told to be a wrong number, not an unknown flag.
    Arguments::command().mut_subcommands(|command| command.allow_negative_numbers(true))
}

fn main() -> ExitCode {
    kao::device::keep_freed_memory();
    let mut parser = parser();
    let matches = parser.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches)?;
        Ok((arguments, matches.subcommand_name().map(str::to_owned)))
    });
    let (arguments, name) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage::tell_parser(&error),
    };
    if arguments.quiet {
        output::be_quiet();
    }
    interrupt::listen();
    if let Some(command) = name.and_then(|name| parser.find_subcommand(name)) {
        usage::remember(command.clone());
    }
    let result = match arguments.command {
        Command::Prepare(arguments) => commands::prepare::run(&arguments),
        Command::Draw(arguments) => commands::draw::run(&arguments),
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Sample(arguments) => commands::sample::run(&arguments),
        Command::Edit(arguments) => commands::edit::run(&arguments),
        Command::Interpolate(arguments) => commands::interpolate::run(&arguments),
        Command::Recover(arguments) => commands::recover::run(&arguments),
        Command::Encode(arguments) => commands::encode::run(&arguments),
        Command::Compare(arguments) => commands::compare::run(&arguments),
        Command::Sweep(arguments) => commands::sweep::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Convert(arguments) => commands::convert::run(&arguments),
        Command::Fetch(arguments) => commands::fetch::run(&arguments),
        Command::Info(arguments) => commands::info::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        #[cfg(feature = "studio")]
        Command::Studio(arguments) => commands::studio::run(arguments),
        #[cfg(not(feature = "studio"))]
        Command::Studio(arguments) => commands::no_studio::run(&arguments),
        Command::Completions(arguments) => {
            commands::completions::run(&arguments, Arguments::command())
        }
        Command::Man => commands::man::run(Arguments::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error)
            if matches!(error.kind(), ErrorKind::Interrupted) && !interrupt::takes_last_word() =>
        {
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => usage::tell(&error),
    }
}

#[cfg(test)]
mod tests;
