//! A field of an answer of MySQL or MariaDB.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_mysql::fuzzing::text(input));
