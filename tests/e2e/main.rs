//! End to end: the built binary between real, private servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod support;

mod altered;
mod anew;
mod aside;
mod at;
mod at_rest;
mod backlog;
mod call_sites;
mod chaos;
mod column_names;
mod columns;
mod commands;
mod conflicts;
mod copy;
mod create;
mod dry_run;
mod formats;
mod generated_values;
mod held;
mod history;
mod init;
mod large;
mod leeway;
mod links;
mod log_forms;
mod loops;
mod main_way;
mod manager;
mod mended;
mod names;
mod new_keys;
mod newer;
mod paused;
mod privileges;
mod quarantine;
mod readme;
mod refusals;
mod repair;
mod rings;
mod scenarios;
mod sequences;
mod servers_fail;
mod standby;
mod streamed;
mod switchover;
mod tables;
mod throttled;
mod ties;
mod tls;
mod trees;
mod type_pairs;
mod types;
mod verify;
