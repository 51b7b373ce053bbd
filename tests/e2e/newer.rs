//! The smaller suite that newer servers have to pass: PostgreSQL 18, MariaDB 11.8 and MySQL 9.7.
//!
//! Each is a test that the usual servers pass too, and stands beside the others of its kind; here is which of them are run
//! again.

use crate::support::newer_pairings;

newer_pairings! {
    stream: crate::main_way::main_way,
    conflict: crate::conflicts::settled,
    compressed_and_in_part: crate::log_forms::compressed_and_in_part,
    in_two_phases: crate::log_forms::in_two_phases,
    copy: crate::copy::while_both_sides_write,
    bridge_is_killed: crate::chaos::bridge_is_killed,
    databases_are_killed: crate::chaos::databases_are_killed,
    standby_is_promoted: crate::failover::with_its_slot,
    types: crate::types::every_type,
    verify: crate::verify::planted_in_tables_of_all_keys,
}
