//! Values that one side alone can hold, where the operator has said what stands for them: it arrives, it is equal, and it is
//! never written back over the original.

use pontoon_servers::Kind;

use crate::{
    commands::{get, sample},
    quarantine::entries,
    support::{Bridge, Database, Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(
    what_stands_for_a_value_never_comes_back,
    a_table_of_them_is_copied_both_ways,
    a_rule_heals_what_waits,
    what_cannot_be_kept_is_refused
);

const CONFIGURATION: &str = r#"
[[tables]]
name = "odd"
[tables.columns]
day = { zero_date = "null", infinity = "limit" }
at = { zero_date = "null", infinity = "null", out_of_range = "limit" }
moment = { infinity = "null", out_of_range = "limit" }
ratio = { infinity = "null" }
amount = { infinity = "null", out_of_range = "limit" }
note = { nul_byte = "remove", too_long = "cut" }
label = { nul_byte = "replace" }
small = { out_of_range = "limit" }
big = { out_of_range = "null" }
span = { out_of_range = "limit" }
[server]
listen = "127.0.0.1:0"
"#;

const POSTGRES: &str = "id int PRIMARY KEY, plain int, day date, at timestamp, moment timestamptz, ratio double precision, \
    amount numeric, note text, label text, small smallint, big bigint, span time";

const MYSQL: &str = "id int PRIMARY KEY, plain int, day date, at datetime(3), moment timestamp NULL, ratio double, \
    amount decimal(10,2), note varchar(10), label varchar(60) CHARACTER SET latin1, small int, big tinyint unsigned, span time";

/// Rows that PostgreSQL alone can hold as they are, from this key on, and with the like of MySQL's.
const OF_POSTGRES: [&str; 3] = [
    "0, 'infinity', 'infinity', 'infinity', 'NaN', 'NaN', 'longer than that', 'x', 1, 256, '12:00'",
    "0, '-infinity', '20000-01-01', '3000-01-01 00:00Z', '-Infinity', '123456789.99', 'ten letters', 'x', 1, -1, '24:00'",
    "0, '2026-11-28', '0044-03-15 BC', '1960-01-01 00:00Z', '1.5', '-1e30', 'äöüäöüäöüäöü', 'x', 1, 255, '23:59:59.9'",
];

/// What stands for them on the other side.
const THERE: [&str; 3] = [
    "9999-12-31|-|-|-|-|longer tha|x|1|-|12:00:00",
    "1000-01-01|9999-12-31 23:59:59.999|2038-01-19 03:14:07|-|99999999.99|ten letter|x|1|-|23:59:59",
    "2026-11-28|1000-01-01 00:00:00.000|1970-01-01 00:00:01|1.5|-99999999.99|äöüäöüäöüä|x|1|255|23:59:59",
];

/// Rows that MySQL and MariaDB alone can hold as they are.
const OF_MYSQL: [&str; 3] = [
    "0, '0000-00-00', '0000-00-00', '2026-11-28', 1.5, 1, 'a\\0b', '\\0c', 40000, 1, '100:00:00'",
    "0, '2026-00-10', '2026-10-00', '2026-11-28', 1.5, 1, '\\0\\0', 'ä\\0', -40000, 2, '-01:00:00'",
    "0, '2026-02-30', '2026-02-30 10:00:00', '2026-11-28', 1.5, 1, 'plain', 'd', 32767, 3, '23:59:59'",
];

const HERE: [&str; 3] = [
    "-|-|2026-11-28 00:00:00|1.5|1.00|ab|\u{FFFD}c|32767|1|23:59:59",
    "-|-|2026-11-28 00:00:00|1.5|1.00||ä\u{FFFD}|-32768|2|00:00:00",
    "-|-|2026-11-28 00:00:00|1.5|1.00|plain|d|32767|3|23:59:59",
];

const FIRST_OF_MYSQL: usize = 100;

/// The rows without their key and `plain`, as a server's own text.
async fn shown(node: &Database, first: usize) -> Vec<String> {
    let text = |column: &str| match node.is_postgres() {
        true if column == "moment" => "(moment AT TIME ZONE 'UTC')::text".to_owned(),
        true if column == "amount" => "round(amount, 2)::text".to_owned(),
        true => format!("{column}::text"),
        false => format!("CONVERT({column} USING utf8mb4)"),
    };
    let columns =
        ["day", "at", "moment", "ratio", "amount", "note", "label", "small", "big", "span"].map(text).join(", ");
    let rows =
        node.rows(&format!("SELECT {columns} FROM odd WHERE id >= {first} AND id < {first} + 10 ORDER BY id")).await;
    rows.iter().map(|row| row.iter().map(|text| text.as_deref().unwrap_or("-")).collect::<Vec<_>>().join("|")).collect()
}

/// Everything, to be held against itself.
async fn exactly(node: &Database, first: usize) -> Vec<Vec<Option<String>>> {
    let sql = match node.is_postgres() {
        true => format!("SELECT odd::text FROM odd WHERE id >= {first} AND id < {first} + 10 ORDER BY id"),
        false => format!(
            "SELECT id, CONCAT(day, ' ', at), moment, ratio, amount, HEX(note), HEX(label), small, big, span FROM odd \
             WHERE id >= {first} AND id < {first} + 10 ORDER BY id"
        ),
    };
    node.rows(&sql).await
}

async fn fill(node: &Database, rows: &[&str], first: usize) {
    let rows: Vec<String> = rows.iter().zip(first..).map(|(row, id)| format!("({id}, {row})")).collect();
    let mode = if node.is_postgres() {
        "SET timezone = 'UTC'"
    } else {
        "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'"
    };
    node.run(&format!("{mode}; INSERT INTO odd VALUES {}", rows.join(", "))).await;
}

async fn start(kinds: [Kind; 2]) -> Link {
    let options = LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    link.postgres().0.create("odd", POSTGRES).await;
    link.mysql().0.create("odd", MYSQL).await;
    link
}

/// What stands for the values is on the other side, the originals are as they were, and both sides count as equal.
async fn holds(link: &Link, originals: &[Vec<Vec<Option<String>>>; 2]) {
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    assert_eq!(shown(mysql, 0).await, THERE);
    assert_eq!(shown(postgres, FIRST_OF_MYSQL).await, HERE);
    assert_eq!(link.succeed(&["quarantine", "list"]).await.trim(), "nothing is in quarantine");
    let now = [without_plain(postgres, 0).await, without_plain(mysql, FIRST_OF_MYSQL).await];
    assert_eq!(&now, originals);
    link.succeed(&["verify"]).await;
}

/// Every value that another one stands for is counted where it is read, by the rule; told every other second.
async fn counts(link: &Link, bridge: &Bridge) {
    let of_postgres = [("infinity", 7), ("out_of_range", 9), ("too_long", 3), ("zero_date", 0), ("nul_byte", 0)];
    let of_mysql = [("zero_date", 6), ("nul_byte", 4), ("out_of_range", 4), ("infinity", 0), ("too_long", 0)];
    for ((_, name), faults) in [(link.postgres(), of_postgres), (link.mysql(), of_mysql)] {
        for (reason, count) in faults {
            let labels = [("source", name), ("reason", reason)];
            eventually(&format!("{count} of {reason} from {name} are counted"), async || {
                let page = get(&bridge.page().await, "/metrics").await.unwrap().1;
                sample(&page, "pontoon_values_converted_total", &labels) == Some(f64::from(count))
            })
            .await;
        }
    }
}

async fn without_plain(node: &Database, first: usize) -> Vec<Vec<Option<String>>> {
    if node.is_postgres() {
        let columns = "day, at, moment, ratio, amount, note, label, small, big, span";
        return node
            .rows(&format!("SELECT ({columns})::text FROM odd WHERE id < {first} + 10 AND id >= {first} ORDER BY id"))
            .await;
    }
    exactly(node, first).await
}

async fn what_stands_for_a_value_never_comes_back(kinds: [Kind; 2]) {
    let link = start(kinds).await;
    link.succeed(&["setup"]).await;
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    let bridge = link.run();
    bridge.works().await;
    fill(postgres, &OF_POSTGRES, 0).await;
    fill(mysql, &OF_MYSQL, FIRST_OF_MYSQL).await;
    link.settle().await;
    let originals = [without_plain(postgres, 0).await, without_plain(mysql, FIRST_OF_MYSQL).await];
    holds(&link, &originals).await;
    counts(&link, &bridge).await;

    // The rows are written on the side that has what stands for the values; then on the other one.
    let mode = |node: &Database| if node.is_postgres() { "" } else { "SET sql_mode = 'ALLOW_INVALID_DATES'; " };
    for (nth, node) in [mysql, postgres, mysql, postgres].into_iter().enumerate() {
        node.run(&format!("{}UPDATE odd SET plain = {nth}", mode(node))).await;
        link.settle().await;
        holds(&link, &originals).await;
    }
    // And on both at once.
    assert_eq!(bridge.stop().await, 0);
    for node in link.nodes() {
        node.run(&format!("{}UPDATE odd SET plain = {}", mode(node), 10 + u8::from(node.is_postgres()))).await;
    }
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    holds(&link, &originals).await;
    assert_eq!(link.conflicts(&[]).await.len(), 6, "each row was contended, and nothing else");

    // A value that both can hold replaces the original, and back.
    mysql.run("UPDATE odd SET day = '2026-01-01', big = 7 WHERE id = 0").await;
    postgres.run(&format!("UPDATE odd SET small = 5, at = '2026-01-01' WHERE id = {FIRST_OF_MYSQL}")).await;
    link.settle().await;
    assert_eq!(
        postgres.rows("SELECT day::text, big::text, at::text FROM odd WHERE id = 0").await,
        [[Some("2026-01-01".to_owned()), Some("7".to_owned()), Some("infinity".to_owned())]]
    );
    let first = format!("SELECT small, CONVERT(day USING utf8mb4), at FROM odd WHERE id = {FIRST_OF_MYSQL}");
    let expected = [Some("5".to_owned()), Some("0000-00-00".to_owned()), Some("2026-01-01 00:00:00.000".to_owned())];
    assert_eq!(mysql.rows(&first).await, [expected]);

    // Removed where the originals are not.
    mysql.run("DELETE FROM odd WHERE id < 10").await;
    postgres.run("DELETE FROM odd WHERE id >= 100").await;
    link.settle().await;
    for node in link.nodes() {
        assert_eq!(node.value("SELECT count(*) FROM odd").await, "0", "{}", node.kind);
    }
    assert_eq!(link.conflicts(&[]).await.len(), 6);
    assert!(entries(&link).await.is_empty());
    assert_eq!(bridge.stop().await, 0);
}

async fn a_table_of_them_is_copied_both_ways(kinds: [Kind; 2]) {
    let link = start(kinds).await;
    let (postgres, from_postgres) = link.postgres();
    let (mysql, from_mysql) = link.mysql();
    fill(postgres, &OF_POSTGRES, 0).await;
    fill(mysql, &OF_MYSQL, FIRST_OF_MYSQL).await;
    link.succeed(&["setup"]).await;
    let originals = [without_plain(postgres, 0).await, without_plain(mysql, FIRST_OF_MYSQL).await];
    for node in [from_postgres, from_mysql] {
        link.succeed(&["copy", "--from", node, "--merge"]).await;
        link.catch_up().await;
    }
    holds(&link, &originals).await;
    assert!(link.conflicts(&[]).await.is_empty());
}

/// Rows that wait since their column has no rule come when it has one.
async fn a_rule_heals_what_waits(kinds: [Kind; 2]) {
    let link = start(kinds).await;
    link.configure("[[tables]]\nname = \"odd\"\n");
    link.succeed(&["setup"]).await;
    fill(link.mysql().0, &OF_MYSQL, FIRST_OF_MYSQL).await;
    link.catch_up().await;
    assert_eq!(entries(&link).await.len(), OF_MYSQL.len());
    assert!(shown(link.postgres().0, FIRST_OF_MYSQL).await.is_empty());
    link.configure(CONFIGURATION);
    let bridge = link.run();
    eventually("nothing waits any more", async || entries(&link).await.is_empty()).await;
    assert_eq!(shown(link.postgres().0, FIRST_OF_MYSQL).await, HERE);
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

async fn what_cannot_be_kept_is_refused(kinds: [Kind; 2]) {
    let link = start(kinds).await;
    let null = |node: &Database| match node.is_postgres() {
        true => "ALTER TABLE odd ALTER day SET NOT NULL; CREATE UNIQUE INDEX by_note ON odd (note)",
        false => "ALTER TABLE odd MODIFY ratio double NOT NULL",
    };
    for node in link.nodes() {
        node.run(null(node)).await;
    }
    link.edit("small = { out_of_range", "id = { out_of_range = \"limit\" }\nplain = { zero_date = \"null\" }\nsmall = { rule = \"additive\", out_of_range");
    let (_, findings) = link.check().await;
    let found = |column: &str, actual: &str| {
        let is = |finding: &&serde_json::Value| {
            finding["code"] == "column-rule-unfit"
                && finding["subject"] == format!("odd column {column}")
                && finding["actual"].as_str().unwrap().contains(actual)
        };
        assert!(findings.iter().any(|finding| is(&finding)), "{column}: {findings:#?}");
    };
    found("id", "key column");
    found("plain", "int");
    found("small", "additive");
    found("day", &format!("not null on {}", link.postgres().1));
    found("ratio", &format!("not null on {}", link.mysql().1));
    let unfit = findings.iter().filter(|finding| finding["code"] == "column-rule-unfit").count();
    assert_eq!(unfit, 5, "the other rules can be kept: {findings:#?}");
}
