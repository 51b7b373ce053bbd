//! What is in the log when the reading begins: written while nobody reads, by the server itself, and without waiting for
//! the disk, so that it takes seconds.

use pontoon_servers::Kind;

use crate::{
    Plan,
    database::{Client, Database, insert_numbered},
    table,
};

/// Rows that are in the table before.
pub(crate) const BASE_ROWS: u64 = 600_000;

/// A mark's key: below all others.
pub(crate) const MARK: i64 = -1;

/// A way of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Transactions of one row: an insert and an update of any row in turn.
    Small,
    /// Transactions of 500 rows: inserts, and updates of rows that lie together, in turn.
    Medium,
    /// One transaction.
    Large,
    /// As the first, but all updates, of a hundred rows.
    Hot,
}

impl Workload {
    pub(crate) const ALL: [Workload; 4] = [Workload::Small, Workload::Medium, Workload::Large, Workload::Hot];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Small => "W1",
            Workload::Medium => "W2",
            Workload::Large => "W3",
            Workload::Hot => "W5",
        }
    }

    /// Those that were asked for by the name that they have in a table.
    pub(crate) fn wanted(plan: &Plan, name: impl Fn(Workload) -> String) -> Vec<Workload> {
        Workload::ALL.into_iter().filter(|workload| plan.wants(&name(*workload))).collect()
    }

    /// How many transactions of how many rows; a tenth of it for a quick look.
    pub(crate) fn size(self, part: u64) -> (u64, u64) {
        match self {
            Workload::Small | Workload::Hot => (200_000 / part, 1),
            Workload::Medium => (2_000 / part, 500),
            Workload::Large => (1, 1_000_000 / part),
        }
    }
}

/// Makes the table with what is in it before, the same on each node.
pub(crate) async fn prepare(nodes: &[&Database]) {
    for node in nodes {
        table::create(node).await;
        table::fill(node, BASE_ROWS).await;
        let mark = table::values(node.kind, &format!("({MARK})"));
        node.run(&format!("INSERT INTO {} VALUES ({mark})", table::NAME)).await;
        let analyze = if node.is_postgres() { "VACUUM ANALYZE" } else { "ANALYZE TABLE" };
        node.run(&format!("{analyze} {}", table::NAME)).await;
    }
}

/// Writes it, and behind it a mark of this number.
pub(crate) async fn write(node: &Database, workload: Workload, part: u64, mark: i64) {
    let first: u64 = node.value(&format!("SELECT max(id) FROM {}", table::NAME)).await.parse().unwrap();
    let mut client = node.client().await;
    let (transactions, rows) = workload.size(part);
    let text = match node.kind {
        Kind::Postgres => block(workload, first, transactions, rows),
        Kind::Mariadb | Kind::Mysql => procedure(node.kind, workload, first, transactions, rows),
    };
    carry_out(&mut client, node.kind, &text).await;
    client.run(&format!("UPDATE {} SET quantity = {mark} WHERE id = {MARK}", table::NAME)).await;
}

/// The number of the last mark that is there.
pub(crate) async fn marked(client: &mut Client) -> i64 {
    let rows = client.rows(&format!("SELECT quantity FROM {} WHERE id = {MARK}", table::NAME)).await;
    rows[0][0].as_ref().unwrap().parse().unwrap()
}

/// Has the server itself carry out a block, or the statement that makes the procedure `backlog`, without waiting for the disk at each commit.
pub(crate) async fn carry_out(client: &mut Client, kind: Kind, text: &str) {
    match kind {
        Kind::Postgres => {
            client.run("SET synchronous_commit = off").await;
            client.run(text).await;
            // The mark's commit takes all of it to the disk: what is not there is not sent, and where the log ends does not count it.
            client.run("RESET synchronous_commit").await;
        }
        Kind::Mariadb | Kind::Mysql => {
            wait_for_disk(client, false).await;
            client.run("DROP PROCEDURE IF EXISTS backlog").await;
            client.run(text).await;
            client.run("CALL backlog()").await;
            wait_for_disk(client, true).await;
        }
    }
}

/// Whether each commit waits for the disk: a setting of the whole server.
async fn wait_for_disk(client: &mut Client, wait: bool) {
    let setting = u8::from(wait);
    client.run(&format!("SET GLOBAL innodb_flush_log_at_trx_commit = {setting}, GLOBAL sync_binlog = {setting}")).await;
}

/// The statements of the transactions that insert behind `first`, by the loop's number `i`, and of those that update from `r` on.
fn statements(kind: Kind, workload: Workload, first: u64, rows: u64) -> [String; 2] {
    let (name, half) = (table::NAME, half(kind));
    let insert = match workload {
        Workload::Large => insert_numbered(kind, name, rows, |n| table::values(kind, &format!("({n} + {first})"))),
        Workload::Medium => {
            let values = table::values(kind, &format!("(id + {first} + {half} * {rows})"));
            format!("INSERT INTO {name} SELECT {values} FROM {name} WHERE id BETWEEN 1 AND {rows}")
        }
        Workload::Small | Workload::Hot => {
            format!("INSERT INTO {name} VALUES ({})", table::values(kind, &format!("({first} + {half})")))
        }
    };
    let set = "SET quantity = quantity + 1, note = 'changed in passing'";
    [insert, format!("UPDATE {name} {set} WHERE id BETWEEN r AND r + {}", rows - 1)]
}

/// Half of the loop's number.
fn half(kind: Kind) -> &'static str {
    if kind == Kind::Postgres { "(i / 2)::bigint" } else { "(i DIV 2)" }
}

/// Up to where the first row of an update is chosen, and whether there are inserts.
fn choice(workload: Workload, rows: u64) -> (u64, bool) {
    match workload {
        Workload::Hot => (100, false),
        _ => (BASE_ROWS - rows, true),
    }
}

fn block(workload: Workload, first: u64, transactions: u64, rows: u64) -> String {
    let [insert, update] = statements(Kind::Postgres, workload, first, rows);
    if workload == Workload::Large {
        return insert;
    }
    let (up_to, inserts) = choice(workload, rows);
    format!(
        "DO $$ DECLARE r bigint; BEGIN
            FOR i IN 1..{transactions} LOOP
                IF {inserts} AND i % 2 = 0 THEN {insert};
                ELSE r := 1 + floor(random() * {up_to}); {update};
                END IF;
                COMMIT;
            END LOOP;
        END $$"
    )
}

fn procedure(kind: Kind, workload: Workload, first: u64, transactions: u64, rows: u64) -> String {
    let [insert, update] = statements(kind, workload, first, rows);
    if workload == Workload::Large {
        return format!("CREATE PROCEDURE backlog() BEGIN {insert}; END");
    }
    let (up_to, inserts) = choice(workload, rows);
    format!(
        "CREATE PROCEDURE backlog() BEGIN
            DECLARE i BIGINT DEFAULT 1;
            DECLARE r BIGINT;
            WHILE i <= {transactions} DO
                IF {inserts} AND i % 2 = 0 THEN {insert};
                ELSE SET r = 1 + floor(rand() * {up_to}); {update};
                END IF;
                SET i = i + 1;
            END WHILE;
        END"
    )
}
