//! Kao in the browser: a server with pages, and an HTTP interface for programs.
//!
//! The server turns HTTP into the requests of the library and their outcomes into JSON and
//! pictures. It computes nothing itself, and knows no terminal: `kao studio` starts it.
//!
//! From the inside out: [`places`](Options) are the models, runs and pictures that the command line
//! gave, by name; `tasks` are the requests that can be made; `jobs` runs them one at a time; `api`
//! says all of it in HTTP; `guard` lets nobody in who should not; `server` holds the connections.
#![forbid(unsafe_code)]

mod api;
mod connections;
mod guard;
mod http;
mod jobs;
mod limits;
mod metrics;
mod openapi;
mod pages;
mod patience;
mod places;
mod server;
mod tasks;

pub use server::{Options, Studio};
