//! The pages in a real browser, with the program itself behind them. Needs Chromium and its driver,
//! so it is built with the feature `browser-tests` alone; `.ci/run` installs both and runs it.
//!
//! Screenshots go to the folder that `KAO_SCREENSHOTS` names.

mod driver;
mod pages;
mod server;
