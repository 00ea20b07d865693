//! `kao studio`

use crate::compute::{Compute, set_threads};
use crate::interrupt::{self, Saving};
use crate::output::{note, one_line, result};
use clap::Args;
use kao::Result;
use kao_studio::{Options, Studio};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kao studio --open                                    the built-in model, in your browser
  kao studio --model faces=run --model old=last.ckpt   models by the names that the page shows
  kao studio --runs runs --data pictures               train there, and look at the pictures
  kao studio --host 0.0.0.0                            from other machines, with a token
  curl -o face.png 'http://127.0.0.1:7860/api/v1/sample.png?seed=7&steps=20'

The interface for programs is described by http://127.0.0.1:7860/api/v1/openapi.json. A job gives
the same bytes as the command line that it names. The server knows the models, runs and pictures
named here and nothing else. Ctrl-C lets the running job come to its end, or saves the training.")]
pub struct Arguments {
    /// A model by name, as NAME=PATH or PATH; may be given several times, the first is chosen at
    /// first. The built-in model is there too
    #[arg(long, short, value_name = "NAME=PATH", value_parser = model)]
    model: Vec<(String, PathBuf)>,
    /// Folder of runs: those in it are shown, new ones are written there
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Folder of folders of pictures, to look at and to train on
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on. Any but this machine's own needs a token
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; with 0 any that is free
    #[arg(long, default_value_t = 7860)]
    port: u16,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    /// Token that requests have to show [default: none on this machine alone, otherwise a new one,
    /// which is printed]
    #[arg(long)]
    token: Option<String>,
    #[command(flatten)]
    compute: Compute,
}

/// `NAME=PATH`; a path alone has the name of its file.
fn model(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !path.is_empty() => Ok((name.to_owned(), path.into())),
        Some(_) => Err("expected NAME=PATH".to_owned()),
        None => {
            let path = Path::new(text);
            let name = path.file_stem().and_then(|name| name.to_str());
            let name = name.ok_or("expected NAME=PATH, since the path has no name")?;
            Ok((name.to_owned(), path.to_path_buf()))
        }
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { model, runs, data, host, port, open, token, compute } = arguments;
    set_threads(compute.threads)?;
    let device = compute.device;
    let studio = Studio::bind(Options { models: model, runs, data, host, port, token, device })?;
    // Training saves when it is told to stop, and a job comes to its end.
    let _saving = Saving::begin();
    note("Kao is open at this address; Ctrl-C ends it");
    result(studio.url())?;
    if open {
        open_in_browser(studio.url());
    }
    studio.serve(&interrupt::asked)
}

fn open_in_browser(url: &str) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let (input, output, errors) = (Stdio::null(), Stdio::null(), Stdio::null());
    let opened = Command::new(program).arg(url).stdin(input).stdout(output).stderr(errors).spawn();
    if let Err(error) = opened {
        note(one_line(&format!("warning: {program} opened no browser: {error}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_the_name_that_is_given_or_that_of_its_file() {
        let of = |text| model(text).unwrap();
        assert_eq!(of("a=runs/b"), ("a".to_owned(), PathBuf::from("runs/b")));
        assert_eq!(of("runs/b.safetensors").0, "b");
        for text in ["a=", "/", ""] {
            assert!(model(text).is_err(), "{text}");
        }
    }
}
