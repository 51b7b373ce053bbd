//! End to end: the built binary between real, private servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod support;

mod chaos;
mod conflicts;
mod main_way;
