//! An update of a part of a document.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pontoon_mysql::fuzzing::document_update(input));
