//! What would close a ring: bridges form a tree.
//!
//! What a bridge writes is, to every other bridge, a write like an application's. So where a table can go from one node
//! of this bridge to the other in any other way than by this bridge, each write arrives twice, and the second time on a
//! row that has it already or has moved on: it is taken for a conflict, loses to an older version of itself, or comes
//! round without end. Nothing in a log tells that from applications that write at once, so it is refused before the
//! first row.
//!
//! No more is known than what the two databases themselves tell ([`pontoon_core::neighbours`]): the other bridges of
//! each, with both ends and both names of each table, and native replication. So two bridges over the same pair are
//! seen, and a triangle; of a longer ring the last bridge sees only its two neighbours, and it is for the watchdog
//! ([`crate::conflict`]) to notice.
//!
//! [`crate::setup::setup`] refuses before it leaves anything, so that it is the second bridge that is refused, and the
//! first goes on.

use std::{collections::BTreeSet, sync::Arc};

use pontoon_core::{
    Code, Error, LogIdentity, Result,
    error::first_few,
    neighbours::{Carried, Feed, Neighbour, Surroundings},
    node::{Admin, Finding, SetupPlan, Severity},
};

use crate::side::{Pair, Side};

/// Whose rows come and go.
pub struct Ring<'a> {
    /// The nodes' names.
    pub names: Pair<&'a str>,
    /// What each is prepared for.
    pub plans: &'a Pair<SetupPlan>,
    /// What each tells of itself.
    pub around: Pair<Surroundings>,
}

/// Tables that are named in a finding; of more it says how many.
const NAMED_MAX: usize = 3;

/// Asks both nodes.
pub async fn look<'a>(
    names: Pair<&'a str>,
    plans: &'a Pair<SetupPlan>,
    admins: &Pair<Arc<dyn Admin>>,
) -> Result<Ring<'a>> {
    let mut around = Pair::<Surroundings>::default();
    for side in Side::BOTH {
        let told = admins[side].surroundings(&plans[side].tables).await;
        around[side] = told.map_err(|error| error.at(names[side]))?;
    }
    Ok(Ring { names, plans, around })
}

impl Ring<'_> {
    /// Errors: a ring would be closed.
    pub fn refuse(&self) -> Result<()> {
        let Some(first) = self.findings().into_iter().find(|found| found.severity == Severity::Blocking) else {
            return Ok(());
        };
        let message = format!("{}: {}, needed is {}", first.subject, first.actual, first.expected);
        Err(Error::new(Code::RingClosed, message).hint(first.remedy.unwrap_or_default()))
    }

    /// All that there is to say.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = self.same_pair();
        findings.extend(self.triangles());
        for side in Side::BOTH {
            findings.extend(self.around[side].feeds.iter().map(|feed| self.feed(side, feed)));
            findings.extend(self.unseen(side));
        }
        findings
    }

    /// Log and database of a side.
    fn place(&self, side: Side) -> (&LogIdentity, &str) {
        let seen_from_there = &self.plans[side.other()];
        (&seen_from_there.other_log, &seen_from_there.other_database)
    }

    /// The bridges of a side that are set up in the very database, and not in another of its server.
    fn bridges(&self, side: Side) -> impl Iterator<Item = &Neighbour> {
        let here = self.place(side);
        self.around[side].bridges.iter().filter(move |n| (&n.joined.log, n.joined.database.as_str()) == here)
    }

    /// Other bridges between the two databases. They are known from either of them.
    fn same_pair(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut met = BTreeSet::new();
        for side in Side::BOTH {
            for other in self.bridges(side).filter(|other| other_end(other) == self.place(side.other())) {
                let shared = self.shared(side, |own| other.carried.contains(own));
                if other.carried.is_empty() && met.insert(&other.bridge) {
                    findings.push(self.untold(side, &other.bridge));
                } else if !shared.is_empty() && met.insert(&other.bridge) {
                    let actual = format!(
                        "the bridge {:?} carries {} between the same two databases",
                        other.bridge,
                        first_few(shared.iter(), NAMED_MAX)
                    );
                    findings.push(self.found("bridge-overlap", side, actual, TREE, take_out(&[&other.bridge])));
                }
            }
        }
        findings
    }

    /// Pairs of bridges that join both databases to the same third one.
    fn triangles(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for one in self.bridges(Side::A).filter(|one| other_end(one) != self.place(Side::B)) {
            for two in self.bridges(Side::B).filter(|two| other_end(two) == other_end(one)) {
                if let Some(untold) = [one, two].into_iter().find(|bridge| bridge.carried.is_empty()) {
                    let side = if std::ptr::eq(untold, one) { Side::A } else { Side::B };
                    findings.push(self.untold(side, &untold.bridge));
                    continue;
                }
                let there = |bridge: &Neighbour, here: &str| -> Vec<String> {
                    let same = bridge.carried.iter().filter(|carried| carried.here == here);
                    same.map(|carried| carried.there.clone()).collect()
                };
                let shared = self.shared(Side::A, |own| {
                    let beyond = there(two, &own.there);
                    there(one, &own.here).iter().any(|table| beyond.contains(table))
                });
                if !shared.is_empty() {
                    let (first, second) = (&one.bridge, &two.bridge);
                    let third = &one.joined.other;
                    let actual = format!(
                        "the bridges {first:?} and {second:?} carry {} to {} and {} by way of {third}",
                        first_few(shared.iter(), NAMED_MAX),
                        self.names[Side::A],
                        self.names[Side::B]
                    );
                    findings.push(self.found("bridge-ring", Side::A, actual, TREE, take_out(&[first, second])));
                }
            }
        }
        findings
    }

    /// The tables of this bridge, as a side names them, that another way carries too.
    fn shared(&self, side: Side, other_way: impl Fn(&Carried) -> bool) -> Vec<String> {
        let own = Carried::of(&self.plans[side]).into_iter();
        own.filter(|(_, own)| other_way(own)).map(|(_, own)| own.here).collect()
    }

    /// Native replication to a side: from the other one it closes a ring, from anywhere else it is one more writer.
    fn feed(&self, side: Side, feed: &Feed) -> Finding {
        let plan = &self.plans[side];
        let is_other = feed.sources.iter().any(|source| self.around[side.other()].serves.contains(source));
        // A subscription writes tables of the names that they have at its publisher.
        let is_same_table = feed.tables.as_ref().is_none_or(|tables| {
            let mut names = tables.iter().map(|id| (plan.tables.get(id.index()), plan.other_tables.get(id.index())));
            names.any(|(own, other)| own.map(|own| &own.name) == other)
        });
        let other = self.names[side.other()];
        if !is_other || !is_same_table {
            let actual = format!("{}: what it brings is to this bridge like an application's writes", feed.name);
            let expected = "nothing that comes from the other node some other way";
            return self.warned("native-replication", side, actual, expected, feed.stop.clone());
        }
        let actual = format!("{}, which is {other}: the server itself replicates from the other node", feed.name);
        let expected = "one way from node to node: this bridge";
        match feed.unsure {
            false => self.found("replication-ring", side, actual, expected, feed.stop.clone()),
            true => self.warned("replication-ring", side, actual, expected, feed.stop.clone()),
        }
    }

    fn unseen(&self, side: Side) -> Option<Finding> {
        let (code, remedy) = self.around[side].unseen.clone()?;
        let actual = "not granted: other ways between the two nodes cannot be seen".to_owned();
        Some(self.warned(code, side, actual, "granted", remedy))
    }

    /// A bridge that was set up before there was a record of its tables.
    fn untold(&self, side: Side, bridge: &str) -> Finding {
        let actual = format!("which tables the bridge {bridge:?} carries is not on record: it may close a ring");
        let remedy = format!("repeat pontoon setup with the configuration of {bridge}");
        self.warned("bridge-tables", side, actual, "its tables on record", remedy)
    }

    fn warned(&self, code: &'static str, side: Side, actual: String, expected: &str, remedy: String) -> Finding {
        Finding { severity: Severity::Warning, ..self.found(code, side, actual, expected, remedy) }
    }

    fn found(&self, code: &'static str, side: Side, actual: String, expected: &str, remedy: String) -> Finding {
        let subject = self.names[side].to_owned();
        let (expected, remedy) = (expected.to_owned(), Some(remedy));
        Finding { code, severity: Severity::Blocking, subject, actual, expected, remedy }
    }
}

const TREE: &str = "one way for a table from node to node: bridges form a tree";

/// Log and database of a bridge's other node.
fn other_end(bridge: &Neighbour) -> (&LogIdentity, &str) {
    (&bridge.joined.other_log, &bridge.joined.other_database)
}

fn take_out(bridges: &[&String]) -> String {
    let names = bridges.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" or ");
    format!("take the tables out of this configuration, or remove {names} with pontoon teardown")
}

#[cfg(test)]
pub(crate) mod tests {
    use pontoon_core::{MappedTable, TableId, TableName, neighbours::Joined, node::Tables};

    use super::*;

    fn log(name: &str) -> LogIdentity {
        LogIdentity(name.into())
    }

    pub(crate) fn tables(names: &[&str]) -> Tables {
        let table = |(name, number): (&&str, u32)| MappedTable {
            id: TableId(number),
            label: (*name).into(),
            key: Vec::new(),
            ..MappedTable::plain(TableName::new("s", *name), Vec::new())
        };
        names.iter().zip(0..).map(table).collect()
    }

    /// The bridge of `a` and `b`, with these tables there and there.
    fn plans(on_a: &[&str], on_b: &[&str]) -> Pair<SetupPlan> {
        let plan = |own: &[&str], other: &[&str], name: &str| SetupPlan {
            tables: tables(own),
            other_tables: tables(other).iter().map(|table| table.name.clone()).collect(),
            arrives: vec![true; own.len()],
            anew: Vec::new(),
            followed: true,
            written: true,
            database: "d".into(),
            other_name: name.into(),
            other_database: "d".into(),
            other_log: log(name),
        };
        Pair::new(plan(on_a, on_b, "b"), plan(on_b, on_a, "a"))
    }

    fn bridge(name: &str, from: &str, to: &str, carried: &[(&str, &str)]) -> Neighbour {
        let joined = Joined {
            node: from.into(),
            log: log(from),
            database: "d".into(),
            other: to.into(),
            other_log: log(to),
            other_database: "d".into(),
        };
        let carried = carried.iter().map(|(here, there)| Carried {
            here: format!("s.{here}"),
            there: format!("s.{there}"),
            arrives: true,
        });
        Neighbour { bridge: name.into(), joined, carried: carried.collect() }
    }

    fn around(bridges: Vec<Neighbour>) -> Surroundings {
        Surroundings { bridges, ..Surroundings::default() }
    }

    /// Code and severity of what is found.
    fn found(plans: &Pair<SetupPlan>, around: Pair<Surroundings>) -> Vec<(&'static str, Severity)> {
        let ring = Ring { names: Pair::new("a", "b"), plans, around };
        let blocks = ring.findings().iter().any(|found| found.severity == Severity::Blocking);
        assert_eq!(ring.refuse().is_err(), blocks);
        ring.findings().into_iter().map(|found| (found.code, found.severity)).collect()
    }

    #[test]
    fn a_second_bridge_over_the_same_tables_is_found_from_either_node_and_told_once() {
        let plans = plans(&["x", "y"], &["x", "z"]);
        let from_a = |tables| around(vec![bridge("two", "a", "b", tables)]);
        let from_b = |tables| around(vec![bridge("two", "b", "a", tables)]);
        let overlap = [("bridge-overlap", Severity::Blocking)];
        assert_eq!(found(&plans, Pair::new(from_a(&[("x", "x")]), from_b(&[("x", "x")]))), overlap);
        assert_eq!(found(&plans, Pair::new(from_a(&[("y", "z")]), Surroundings::default())), overlap);
        assert_eq!(found(&plans, Pair::new(Surroundings::default(), from_b(&[("z", "y")]))), overlap);
        // Other tables, or the same on one side alone: a chain.
        assert!(found(&plans, Pair::new(from_a(&[("y", "q"), ("v", "x")]), Surroundings::default())).is_empty());
        assert_eq!(found(&plans, Pair::new(from_a(&[]), from_b(&[]))), [("bridge-tables", Severity::Warning)]);
        // Another database of the same server.
        let mut elsewhere = bridge("two", "a", "b", &[("x", "x")]);
        elsewhere.joined.database = "other".into();
        assert!(found(&plans, Pair::new(around(vec![elsewhere]), Surroundings::default())).is_empty());
    }

    #[test]
    fn a_triangle_is_found_where_the_same_rows_go_round() {
        let plans = plans(&["x"], &["z"]);
        let by_way_of = |on_a, on_b| {
            let (a, b) = (vec![bridge("one", "a", "c", on_a)], vec![bridge("two", "b", "c", on_b)]);
            found(&plans, Pair::new(around(a), around(b)))
        };
        assert_eq!(by_way_of(&[("x", "w")], &[("z", "w")]), [("bridge-ring", Severity::Blocking)]);
        assert!(by_way_of(&[("x", "w")], &[("z", "v")]).is_empty());
        assert!(by_way_of(&[("y", "w")], &[("z", "w")]).is_empty());
        assert_eq!(by_way_of(&[("x", "w")], &[]), [("bridge-tables", Severity::Warning)]);
        // A star is none.
        let (a, b) = (bridge("one", "a", "c", &[("x", "w")]), bridge("two", "b", "d", &[("z", "w")]));
        assert!(found(&plans, Pair::new(around(vec![a]), around(vec![b]))).is_empty());
    }

    #[test]
    fn native_replication_from_the_other_node_closes_a_ring_and_from_a_third_does_not() {
        let feed = |source: &str, tables: Option<Vec<TableId>>, unsure| Feed {
            name: "a replica of h:1".into(),
            sources: vec![source.into()],
            tables,
            unsure,
            stop: "STOP".into(),
        };
        let of = |feed: Feed, on_b: &[&str]| {
            let fed = Surroundings { feeds: vec![feed], ..Surroundings::default() };
            let serving = Surroundings { serves: vec!["id 2".into(), "id 3".into()], ..Surroundings::default() };
            let both = found(&plans(&["x"], on_b), Pair::new(fed.clone(), serving.clone()));
            assert_eq!(both, found(&plans(on_b, &["x"]), Pair::new(serving, fed)), "from either side");
            both
        };
        let ring = |severity| [("replication-ring", severity)];
        let other = [("native-replication", Severity::Warning)];
        assert_eq!(of(feed("id 2", None, false), &["x"]), ring(Severity::Blocking));
        assert_eq!(of(feed("id 2", None, true), &["x"]), ring(Severity::Warning));
        assert_eq!(of(feed("id 9", None, false), &["x"]), other);
        assert_eq!(of(feed("id 3", Some(vec![TableId(0)]), false), &["x"]), ring(Severity::Blocking));
        assert_eq!(of(feed("id 3", Some(vec![TableId(0)]), false), &["z"]), other);
    }
}
