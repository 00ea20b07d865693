//! Pieces of HTTP: answers, bodies that come in time, queries, streams of events.

pub mod answer;
pub mod body;
pub mod problem;
pub mod query;
pub mod stream;
