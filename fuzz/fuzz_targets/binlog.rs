//! The binary log of MySQL and MariaDB.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_mysql::fuzzing::log(input));
