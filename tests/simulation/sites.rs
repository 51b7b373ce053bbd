//! A failure at every call of a database in turn: short schedules with conflicts, in each of which every call that the
//! engine makes fails once in each way that it can, and all promises hold all the same. What chance alone would meet
//! now and then is met here without a gap: the call numbers are those of the schedule without a failure, which the same
//! seed gives again up to the one that fails.
//!
//! `PONTOON_SIM_TWICE=1` also lets a second call fail, each of the next [`SECOND_MAX`] after every commit that failed:
//! the way back is work as well.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_faulty::{Fault, Site, Sites};

use crate::{schedule::Schedule, world};

/// Calls after a commit that failed, each of which fails as well: more than it takes from there until the next session
/// is at work.
const SECOND_MAX: usize = 60;

/// Runs a schedule with calls that fail. Returns the calls that it made.
fn hold(schedule: &Schedule, failing: &[(usize, Fault)]) -> Vec<Site> {
    let sites = Sites::failing(failing.iter().copied());
    if let Err(failure) = world::run_with(schedule, &sites) {
        let met = sites.met();
        let failed: Vec<String> = failing
            .iter()
            .filter_map(|(at, fault)| Some(format!("{fault:?} of call {at}, {}", met.get(*at)?)))
            .collect();
        panic!("{schedule}, {}: {}\n{}", failed.join(" and "), failure.what, failure.trace.join("\n"));
    }
    sites.met()
}

/// Lets every call of a schedule fail in turn, and says how many there were. `needed` are the methods among them: what
/// a schedule is there for.
fn every_call_fails_once(line: &str, needed: &[&str]) {
    let schedule: Schedule = line.parse().unwrap();
    let sites = hold(&schedule, &[]);
    let mut of_method: BTreeMap<&str, usize> = BTreeMap::new();
    sites.iter().for_each(|site| *of_method.entry(site.method).or_default() += 1);
    let missing: BTreeSet<_> = needed.iter().filter(|method| !of_method.contains_key(*method)).collect();
    assert!(missing.is_empty(), "{line} does not come to {missing:?}: {of_method:?}");
    let twice = std::env::var_os("PONTOON_SIM_TWICE").is_some();
    let (mut runs, mut pairs) = (0, 0);
    for (at, site) in sites.iter().enumerate() {
        let slow = (site.method == "apply").then_some(&Fault::Slow);
        for &fault in Fault::of(site.method).iter().chain(slow) {
            let met = hold(&schedule, &[(at, fault)]);
            assert_eq!(met.get(at), Some(site), "{line}: the same seed gives the same schedule");
            runs += 1;
            if !twice || site.method != "commit" {
                continue;
            }
            for (second, then) in met.iter().enumerate().skip(at + 1).take(SECOND_MAX) {
                for &also in Fault::of(then.method) {
                    hold(&schedule, &[(at, fault), (second, also)]);
                    pairs += 1;
                }
            }
        }
    }
    println!("{line}: {} calls, {runs} failures, {pairs} pairs of failures; {of_method:?}", sites.len());
}

/// A schedule each, with what it is there for. Short ones with much in them, so that all of them are done in a minute.
macro_rules! every_call_fails_once {
    ($($name:ident: $line:literal [$($needed:literal),*];)*) => {$(
        #[test]
        fn $name() {
            every_call_fails_once($line, &[$($needed),*]);
        }
    )*};
}

every_call_fails_once! {
    calls_fail_while_conflicts_are_settled: "pair register deletes=true seed=11" ["connect", "state", "try_lease",
        "take_over", "renew", "raise_epoch", "note_other_epoch", "open_reader", "next", "open_session", "copies", "mark",
        "log_status", "begin", "tag", "lock", "read", "fence", "apply", "highest_id", "record", "commit", "rollback"];
    calls_fail_in_a_chain: "chain register deletes=true seed=73" ["retire"];
    calls_fail_while_rows_move: "pair moves deletes=true seed=7" ["record"];
    calls_fail_while_a_table_is_loaded: "pair load seed=2" ["load", "note_copy"];
    calls_fail_while_rows_are_copied: "pair copy deletes=true seed=13" ["open_scan", "settled_chunk", "load", "note_copy"];
    calls_fail_while_rows_are_refused: "pair register deletes=true refuses=true seed=26" ["asked", "is_as_mapped", "savepoint",
        "rollback_to_savepoint", "store", "stored", "tried", "release", "retire"];
    calls_fail_while_rows_that_lost_are_given_a_key: "pair newkeys seed=1" ["requests", "recorded", "answer_new_key"];
    calls_fail_while_both_rows_of_a_key_are_kept: "pair newkeys seed=2" ["requests", "answer_new_key", "release"];
    calls_fail_while_rows_are_made_equal: "pair repaired deletes=true seed=3" ["requests", "repaired", "record", "commit"];
    calls_fail_while_rows_of_a_copy_are_refused: "pair copy deletes=true refuses=true seed=28" ["load", "tried"];
    calls_fail_while_a_person_is_to_decide: "pair held deletes=true seed=4" ["asked", "store", "stored", "tried", "release"];
    calls_fail_while_rows_that_move_are_refused: "pair moves deletes=true refuses=true seed=11" ["tried", "release"];
    calls_fail_while_servers_are_promoted: "pair register deletes=true promotes=true seed=96" ["identity", "carried_over", "note_logs"];
    calls_fail_while_a_ledger_is_refused: "pair ledger refuses=true seed=12" ["store", "release"];
}
