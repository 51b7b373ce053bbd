//! What applications write in rounds, each on keys of its own, so that it is known of every row what has to become of it: the
//! exact value, or one of two that contend; and of every record, whether two writes are behind it.
//!
//! | part | what is in it beside writes that meet nothing, and counters |
//! | --- | --- |
//! | `Contended` | rows that both sides write, remove and add at once |
//! | `Tied` | two rows with one unique value, a parent that goes while it gets a child, values that rows swap |
//! | `Refused` | rows that the other side refuses, written again, and mended |
//! | `Loaded` | a table that is loaded while both sides write it |
//!
//! What contends is written in two transactions, one on each side, of which neither is committed before both have written: so
//! neither can have seen the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use pontoon::{nodes::Nodes, side::Side};
use pontoon_core::{CopyState, TableId, node::Tables};
use pontoon_servers::Kind;

use super::{
    Link, LinkOptions,
    database::{Client, Rows, insert_numbered},
};

/// Rounds that there are keys for.
pub(crate) const ROUNDS_MAX: i64 = 3_000;

/// Keys of a table for a round; as many as it needs.
const KEYS: i64 = 8;

/// From here on the keys of rows that a round adds.
const NEW: i64 = 1_000_000;

/// Rows that are loaded: three chunks, of which one is shared out to two sessions.
const LOADED: i64 = 2_700;

/// How often a pair of transactions is begun that a server refuses, as a deadlock with the bridge may be.
const BEGUN_MAX: usize = 5;

/// How long anything may take to come about: as long as several sessions of the bridge, and a commit that comes later.
const WITHIN: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
[[tables]]
name = "items"
[[tables]]
name = "counters"
columns = { n = "additive" }
[[tables]]
name = "parents"
unique_conflict = "rule"
[[tables]]
name = "children"
foreign_key = "delete_child"
[[tables]]
name = "loads"
"#;

const PARENTS: &str = "id bigint PRIMARY KEY, code varchar(60), name varchar(60) NOT NULL, \
                       CONSTRAINT parents_code UNIQUE (code)";

const CHILDREN: &str = "id bigint PRIMARY KEY, parent bigint, \
                        CONSTRAINT children_parent FOREIGN KEY (parent) REFERENCES parents (id)";

/// Everything, for a last look.
const DUMPS: [&str; 5] = [
    "SELECT id, name, quantity FROM items ORDER BY id",
    "SELECT id, n, note FROM counters ORDER BY id",
    "SELECT id, code, name FROM parents ORDER BY id",
    "SELECT id, parent FROM children ORDER BY id",
    "SELECT id, name FROM loads ORDER BY id",
];

/// The origin under which rows are taken away on PostgreSQL without being told of: the bridge's own, and of none of its
/// sessions.
const QUIETLY: &str = "pontoon:e2e:9";

/// What a round consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Contended,
    Tied,
    Refused,
    Loaded,
}

/// A table and a key.
type Place = (&'static str, i64);

/// What is known of a round that was written.
struct Round {
    number: i64,
    part: Part,
    /// The second column of rows, as it must be; `None` for no row.
    exact: BTreeMap<Place, Option<String>>,
    /// What both sides wrote, or one of them refused: of these there may be a record.
    met: BTreeSet<Place>,
}

impl Round {
    /// A row that is there from the beginning.
    fn old(&self, n: i64) -> i64 {
        debug_assert!(n < KEYS);
        1 + self.number * KEYS + n
    }

    /// One that is added.
    fn fresh(&self, n: i64) -> i64 {
        NEW + self.old(n)
    }

    fn is(&mut self, place: Place, value: &str) {
        self.exact.insert(place, Some(value.to_owned()));
    }

    fn meets(&mut self, places: impl IntoIterator<Item = Place>) {
        self.met.extend(places);
    }

    /// What meets nothing, and what only adds.
    fn alone(&mut self) -> [Vec<String>; 2] {
        let [changed_on_a, changed_on_b, removed, counted] = [0, 1, 2, 0].map(|n| self.old(n));
        let [added_on_a, added_on_b] = [0, 1].map(|n| self.fresh(n));
        for (id, name) in [(changed_on_a, "of a"), (added_on_a, "of a"), (changed_on_b, "of b"), (added_on_b, "of b")] {
            self.is(("items", id), name);
        }
        self.exact.insert(("items", removed), None);
        self.is(("counters", counted), "8");
        [
            vec![
                format!("UPDATE items SET name = 'of a' WHERE id = {changed_on_a}"),
                format!("INSERT INTO items VALUES ({added_on_a}, 'of a', 1)"),
                format!("UPDATE counters SET n = n + 3 WHERE id = {counted}"),
            ],
            vec![
                format!("UPDATE items SET name = 'of b' WHERE id = {changed_on_b}"),
                format!("DELETE FROM items WHERE id = {removed}"),
                format!("INSERT INTO items VALUES ({added_on_b}, 'of b', 1)"),
                format!("UPDATE counters SET n = n + 5 WHERE id = {counted}"),
            ],
        ]
    }

    fn contended(&mut self) -> [Vec<String>; 2] {
        let [changed, removed_on_a, removed_on_b] = [3, 4, 5].map(|n| self.old(n));
        let (added, counted) = (self.fresh(2), self.old(1));
        self.meets([changed, removed_on_a, removed_on_b, added].map(|id| ("items", id)));
        self.meets([("counters", counted)]);
        self.is(("counters", counted), "18");
        [("a", 7, removed_on_a, removed_on_b), ("b", 11, removed_on_b, removed_on_a)].map(|(side, n, own, other)| {
            vec![
                format!("UPDATE items SET name = 'of {side}' WHERE id = {changed}"),
                format!("DELETE FROM items WHERE id = {own}"),
                format!("UPDATE items SET name = 'of {side}' WHERE id = {other}"),
                format!("INSERT INTO items VALUES ({added}, 'of {side}', 1)"),
                format!("UPDATE counters SET n = n + {n}, note = 'of {side}' WHERE id = {counted}"),
            ]
        })
    }

    fn tied(&mut self) -> [Vec<String>; 2] {
        let [removed, one, other, kept] = [0, 1, 2, 3].map(|n| self.old(n));
        let [alike_on_a, alike_on_b] = [0, 1].map(|n| self.fresh(n));
        let [dangling, fine] = [alike_on_a, alike_on_b];
        self.meets([removed, alike_on_a, alike_on_b].map(|id| ("parents", id)));
        self.meets([("children", dangling)]);
        self.is(("parents", one), &format!("code {other}"));
        self.is(("parents", other), &format!("code {one}"));
        self.is(("children", fine), &kept.to_string());
        let alike = |id: i64| format!("INSERT INTO parents VALUES ({id}, 'alike {alike_on_a}', 'new')");
        [
            vec![
                format!("DELETE FROM parents WHERE id = {removed}"),
                alike(alike_on_a),
                format!("UPDATE parents SET code = 'for a moment {one}' WHERE id = {one}"),
                format!("UPDATE parents SET code = 'code {one}' WHERE id = {other}"),
                format!("UPDATE parents SET code = 'code {other}' WHERE id = {one}"),
            ],
            vec![
                format!("INSERT INTO children VALUES ({dangling}, {removed})"),
                alike(alike_on_b),
                format!("UPDATE parents SET name = 'has a child' WHERE id = {kept}"),
                format!("INSERT INTO children VALUES ({fine}, {kept})"),
            ],
        ]
    }

    /// The rows that the other side refuses: a's and b's.
    fn bad(&self) -> [i64; 2] {
        [3, 4].map(|n| self.fresh(n))
    }

    fn refused(&mut self) -> [Vec<String>; 2] {
        let bad = self.bad();
        self.meets(bad.map(|id| ("items", id)));
        bad.iter().for_each(|&id| self.is(("items", id), "mended"));
        let insert = |id: i64, quantity: i64| vec![format!("INSERT INTO items VALUES ({id}, 'bad', {quantity})")];
        [insert(bad[0], REFUSED_ON[1]), insert(bad[1], REFUSED_ON[0])]
    }

    /// Of the table that is being loaded: what may have arrived already, and what was never there.
    fn loaded(&mut self) -> [Vec<String>; 2] {
        let [changed, removed, on_b] = [0, 1, 2].map(|n| 1 + self.old(n) % LOADED);
        let added = self.fresh(0);
        self.meets([changed, removed, on_b, added].map(|id| ("loads", id)));
        self.is(("loads", added), "of b");
        [
            vec![
                format!("UPDATE loads SET name = 'of a {added}' WHERE id IN ({changed}, {on_b})"),
                format!("DELETE FROM loads WHERE id = {removed}"),
            ],
            vec![
                format!("UPDATE loads SET name = 'of b {added}' WHERE id IN ({on_b}, {removed})"),
                format!("INSERT INTO loads VALUES ({added}, 'of b')"),
            ],
        ]
    }

    /// Asks for all rows of its keys.
    fn dumps(&self) -> Vec<(&'static str, String)> {
        let (old, new) = ([self.old(0), self.old(KEYS - 1)], [self.fresh(0), self.fresh(KEYS - 1)]);
        let of_keys = |table, columns| {
            let keys = format!("id BETWEEN {} AND {} OR id BETWEEN {} AND {}", old[0], old[1], new[0], new[1]);
            (table, format!("SELECT id, {columns} FROM {table} WHERE {keys} ORDER BY id"))
        };
        let mut dumps = vec![
            of_keys("items", "name, quantity"),
            of_keys("counters", "n, note"),
            of_keys("parents", "code, name"),
            of_keys("children", "parent"),
        ];
        if self.part == Part::Loaded {
            dumps.push(("loads", DUMPS[4].to_owned()));
        }
        dumps
    }
}

/// The quantities that a and b refuse.
const REFUSED_ON: [i64; 2] = [-1, -2];

/// Two applications, one on each side, and what they have written since it was last compared.
pub(crate) struct Rounds {
    clients: [Client; 2],
    next: i64,
    written: Vec<Round>,
    /// The highest record that has been looked at.
    recorded: i64,
    transactions: usize,
}

impl Rounds {
    /// Two servers with the tables of the rounds, set up.
    pub(crate) async fn link(kinds: [Kind; 2]) -> Link {
        let link =
            Link::start(kinds, LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() }).await;
        for (node, refuses) in link.nodes().into_iter().zip(REFUSED_ON) {
            let items = "id bigint PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL, CONSTRAINT fit CHECK";
            node.create("items", &format!("{items} (quantity <> {refuses})")).await;
            node.create("counters", "id bigint PRIMARY KEY, n bigint NOT NULL, note varchar(60)").await;
            node.create("parents", PARENTS).await;
            node.create("children", CHILDREN).await;
            node.create("loads", "id bigint PRIMARY KEY, name varchar(60) NOT NULL").await;
            let fill = async |table: &str, values: fn(&str) -> String| {
                let rows = (ROUNDS_MAX * KEYS).unsigned_abs();
                node.run(&insert_numbered(node.kind, table, rows, values)).await;
            };
            fill("items", |n| format!("{n}, 'first', 1")).await;
            fill("counters", |n| format!("{n}, 0, NULL")).await;
            fill("parents", |n| format!("{n}, concat('code ', {n}), 'first'")).await;
        }
        let rows = |n: &str| format!("{n}, concat('row ', {n})");
        link.a.run(&insert_numbered(link.a.kind, "loads", LOADED.unsigned_abs(), rows)).await;
        link.succeed(&["setup"]).await;
        if link.b.is_postgres() {
            link.b.rows(&format!("SELECT pg_replication_origin_create('{QUIETLY}')")).await;
        }
        link
    }

    pub(crate) async fn new(link: &Link) -> Rounds {
        let clients = [link.a.client().await, link.b.client().await];
        Rounds { clients, next: 0, written: Vec::new(), recorded: 0, transactions: 0 }
    }

    /// Transactions that were compared.
    pub(crate) fn transactions(&self) -> usize {
        self.transactions
    }

    /// Writes a round on both sides at once.
    pub(crate) async fn write(
        &mut self,
        part: Part,
        link: &Link,
        nodes: &Nodes,
        tables: &Tables,
    ) -> Result<(), String> {
        let mut round = Round { number: self.next, part, exact: BTreeMap::new(), met: BTreeSet::new() };
        assert!(self.next < ROUNDS_MAX, "more rounds than keys");
        self.next += 1;
        let alone = round.alone();
        let more = match part {
            Part::Contended => round.contended(),
            Part::Tied => round.tied(),
            Part::Refused => round.refused(),
            Part::Loaded => {
                self.begin_a_load(link, nodes, tables).await?;
                round.loaded()
            }
        };
        let [a, b] = alone
            .into_iter()
            .zip(more)
            .map(|(alone, more)| [alone, more].concat())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        self.at_once([a, b]).await?;
        let counted = round.old(2);
        round.is(("counters", counted), "6");
        for _ in 0..3 {
            let count = format!("UPDATE counters SET n = n + 1 WHERE id = {counted}");
            self.each([&count, &count]).await?;
        }
        if part == Part::Refused {
            self.mend(&round).await?;
        }
        self.written.push(round);
        Ok(())
    }

    /// A transaction on each side, neither committed before both have written.
    async fn at_once(&mut self, statements: [Vec<String>; 2]) -> Result<(), String> {
        let begin = statements.map(|statements| format!("BEGIN; {}", statements.join("; ")));
        for _ in 0..BEGUN_MAX {
            if self.each_of([&begin[0], &begin[1]]).await.iter().all(Result::is_ok) {
                return self.each(["COMMIT"; 2]).await;
            }
            self.each_of(["ROLLBACK"; 2]).await.into_iter().collect::<Result<(), String>>()?;
        }
        Err(format!("the applications are refused: {begin:?}"))
    }

    /// A transaction on each side.
    async fn each(&mut self, sql: [&str; 2]) -> Result<(), String> {
        self.each_of(sql).await.into_iter().collect::<Result<(), String>>()?;
        self.transactions += 2;
        Ok(())
    }

    async fn each_of(&mut self, sql: [&str; 2]) -> [Result<(), String>; 2] {
        let [a, b] = &mut self.clients;
        let (a, b) = tokio::join!(a.try_run(sql[0]), b.try_run(sql[1]));
        [a, b]
    }

    /// Writes the rows that are refused again, as bad as they were, and when that has been tried once more mends them.
    async fn mend(&mut self, round: &Round) -> Result<(), String> {
        let bad = round.bad();
        self.tried(bad, 1).await?;
        let again = bad.map(|id| format!("UPDATE items SET name = 'still bad' WHERE id = {id}"));
        self.each([&again[0], &again[1]]).await?;
        self.tried(bad, 2).await?;
        let mend = bad.map(|id| format!("UPDATE items SET name = 'mended', quantity = 1 WHERE id = {id}"));
        self.each([&mend[0], &mend[1]]).await
    }

    /// Waits until each side has refused the other's row so often.
    async fn tried(&mut self, [of_a, of_b]: [i64; 2], times: i64) -> Result<(), String> {
        let sql = [of_b, of_a].map(|id| {
            format!("SELECT coalesce(max(attempts), 0) FROM pontoon.quarantine WHERE table_name = 'items' AND row_key = '[{id}]'")
        });
        self.until(&format!("refused {times} times"), async |rounds| {
            let [a, b] = rounds.ask([&sql[0], &sql[1]]).await?;
            Ok([a, b].iter().all(|rows| number(rows) >= times))
        })
        .await
    }

    async fn until(
        &mut self,
        what: &str,
        mut reached: impl AsyncFnMut(&mut Rounds) -> Result<bool, String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        while !reached(self).await? {
            if began.elapsed() > WITHIN {
                return Err(format!("not within {WITHIN:?}: {what}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn ask(&mut self, sql: [&str; 2]) -> Result<[Rows; 2], String> {
        let [a, b] = &mut self.clients;
        let (a, b) = tokio::join!(a.try_rows(sql[0]), b.try_rows(sql[1]));
        Ok([a?, b?])
    }

    /// Takes away what was loaded to b, so that no log tells, and asks for it again.
    async fn begin_a_load(&mut self, link: &Link, nodes: &Nodes, tables: &Tables) -> Result<(), String> {
        let mut client = link.b.client().await;
        if link.b.is_postgres() {
            client.rows(&format!("SELECT pg_replication_origin_session_setup('{QUIETLY}')")).await;
        } else {
            client.run("SET SESSION sql_log_bin = 0").await;
        }
        client.run("DELETE FROM loads").await;
        drop(client);
        let table = tables.iter().find(|table| &*table.label == "loads").map(|table| table.id);
        let table: TableId = table.ok_or("loads is not mapped")?;
        let copy = CopyState { table, after: None, rows: 0, estimated: None, done: false };
        nodes.admins[Side::B].request_copies(tables, &[copy]).await.map_err(|error| error.to_string())
    }

    /// Waits until all that was written has crossed, nothing is in quarantine, half done or still to be loaded.
    pub(crate) async fn settle(&mut self, link: &Link) -> Result<(), String> {
        const WAITING: &str = "SELECT (SELECT count(*) FROM pontoon.quarantine) + (SELECT count(*) FROM pontoon.control \
                               WHERE name LIKE 'copy:%' AND value NOT LIKE '%\"done\":true%')";
        let seconds = format!("{}s", WITHIN.as_secs());
        let mut state = String::new();
        for _ in 0..2 {
            let settled = self
                .until("nothing waits, and nothing is half done", async |rounds| {
                    let [a, b] = rounds.ask([WAITING; 2]).await?;
                    let records = rounds.records().await?;
                    let half_done = half_done(&records);
                    state = format!("waiting {a:?} and {b:?}, half done {half_done:?}");
                    Ok(number(&a) + number(&b) == 0 && half_done.is_empty())
                })
                .await;
            settled.map_err(|what| format!("{what}: {state}"))?;
            let ended = link.command(&["wait", "--timeout", &seconds]).await;
            if ended.code != 0 {
                return Err(format!("{ended:?}"));
            }
        }
        Ok(())
    }

    /// The records of both sides since it was last compared.
    async fn records(&mut self) -> Result<[Rows; 2], String> {
        let sql = format!(
            "SELECT id, table_name, row_key, rule FROM pontoon.resolution WHERE id > {} ORDER BY id",
            self.recorded
        );
        self.ask([&sql; 2]).await
    }

    /// Compares what was written since the last time: both sides have the same rows, what nobody else wrote is as it was
    /// written, and every record is of a row in which two writes met.
    pub(crate) async fn compare(&mut self) -> Result<(), String> {
        // Those of a are committed first: b has no other.
        let [records, on_b] = self.records().await?;
        if let Some(record) = on_b.iter().find(|record| !records.contains(record)) {
            return Err(format!("a record of b's alone: {record:?}"));
        }
        let written = std::mem::take(&mut self.written);
        let met: BTreeSet<(String, String)> = written
            .iter()
            .flat_map(|round| &round.met)
            .map(|(table, id)| ((*table).to_owned(), format!("[{id}]")))
            .collect();
        for record in &records {
            let [id, table, key, rule] = [0, 1, 2, 3].map(|at| record[at].clone().unwrap_or_default());
            // A row of a load whose key had to be settled, since it was under way when the session ended.
            let is_loaded = table == "loads" && rule == "copied from a";
            if rule.starts_with("drift") || !is_loaded && !met.contains(&(table, key)) {
                return Err(format!("a record that no two writes explain: {record:?}"));
            }
            self.recorded = id.parse().unwrap();
        }
        for round in &written {
            let mut found = BTreeMap::new();
            for (table, sql) in round.dumps() {
                let [a, b] = self.ask([&sql; 2]).await?;
                if a != b {
                    let [only_a, only_b] = [(&a, &b), (&b, &a)]
                        .map(|(one, other)| one.iter().filter(|row| !other.contains(row)).collect::<Vec<_>>());
                    return Err(format!("{table}: a alone has {only_a:?}, b alone has {only_b:?}"));
                }
                found.extend(
                    a.into_iter().map(|row| ((table, row[0].as_ref().unwrap().parse().unwrap()), row[1].clone())),
                );
            }
            for (place, value) in &round.exact {
                let is = found.get(place).cloned().flatten();
                if is != *value {
                    return Err(format!("{place:?} is {is:?} on both sides, and was written as {value:?}"));
                }
            }
        }
        Ok(())
    }

    /// Compares everything.
    pub(crate) async fn compare_all(&mut self, link: &Link) {
        for dump in DUMPS {
            link.same(dump).await;
        }
        link.succeed(&["verify"]).await;
    }
}

/// The last records of keys that a has and b has not.
fn half_done([a, b]: &[Rows; 2]) -> Vec<Vec<Option<String>>> {
    let last: BTreeMap<_, _> = a.iter().map(|record| ((&record[1], &record[2]), record)).collect();
    last.into_values().filter(|record| !b.contains(record)).cloned().collect()
}

fn number(rows: &Rows) -> i64 {
    rows[0][0].as_ref().unwrap().parse().unwrap()
}
