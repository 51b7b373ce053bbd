//! PostgreSQL's text of a value.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_postgres::fuzzing::text(input));
