//! The connector against a real server. Each test has a private one; the bridge's user is a plain one
//! with the grants that `setup --print-sql` prints, so every test is one of these too.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod admin;
mod corpus;
mod digest;
mod fence;
mod held;
mod lease;
mod login;
mod names;
mod obstacles;
mod shapes;
mod stream;
mod sums;
mod support;
mod ties;
mod timeline;
mod tls;
mod values;
