//! A value in a row of the binary log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_mysql::fuzzing::value(input));
