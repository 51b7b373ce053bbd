//! The connector against real servers, each of MariaDB and of MySQL. Each test has a private one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod corpus;
mod digest;
mod forms;
mod log;
mod login;
mod names;
mod places;
mod session;
mod start;
mod sums;
mod support;
mod ties;
mod tls;
mod values;
mod xa;
