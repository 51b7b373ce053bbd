//! Pontoon's engine: a two-way bridge between two databases, joined by their replication logs.

pub mod config;
pub mod side;
