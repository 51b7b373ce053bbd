//! A document in the binary log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_mysql::fuzzing::document(input));
