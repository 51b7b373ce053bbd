//! Pontoon's engine: a two-way bridge between two databases, joined by their replication logs.

mod aside;
mod barrier;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod conflict;
mod copy;
pub mod create;
pub mod direction;
mod dry_run;
mod epoch;
pub mod event;
pub mod human;
pub mod level;
pub mod logging;
pub mod mapping;
pub mod nodes;
pub mod observe;
mod operate;
mod reload;
pub mod rings;
pub mod rules;
pub mod service;
pub mod setup;
pub mod side;
pub mod verify;
