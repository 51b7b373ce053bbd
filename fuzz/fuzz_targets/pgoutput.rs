//! PostgreSQL's replication stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_postgres::fuzzing::log(input));
