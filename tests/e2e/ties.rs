//! Rows that unique constraints and foreign keys tie to each other: what is no conflict crosses as it is, what is waits for a
//! person or is decided by rule, and no row is ever left that refers to nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::{Kind, Release};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value as Json;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    quarantine::{entries, id, is_healed},
    support::{Database, Link, LinkOptions, database::Client, first_pairing, workload},
};

first_pairing!(what_is_passed_on_is_no_conflict, a_person_decides, under_kills);

const PARENTS: &str =
    "id bigint PRIMARY KEY, code varchar(60), name varchar(60), CONSTRAINT parents_code UNIQUE (code)";

const CHILDREN: &str =
    "id bigint PRIMARY KEY, parent bigint, CONSTRAINT children_parent FOREIGN KEY (parent) REFERENCES parents (id)";

const DUMPS: [&str; 2] =
    ["SELECT id, code, name FROM parents ORDER BY id", "SELECT id, parent FROM children ORDER BY id"];

/// Parents and children on both sides, with a configuration for each.
async fn tied(kinds: [Kind; 2], rules: &str) -> Link {
    let table = |name: &str| format!("[[tables]]\nname = \"{name}\"\n{rules}");
    let configuration = table("parents") + &table("children");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("parents", PARENTS).await;
    link.create("children", CHILDREN).await;
    link
}

/// Statements as one transaction.
async fn transact(node: &Database, statements: &[&str]) {
    let mut client = node.client().await;
    client.run("BEGIN").await;
    for statement in statements {
        client.run(statement).await;
    }
    client.run("COMMIT").await;
}

/// Values that rows take from each other within a transaction and across several, parents that go with their children,
/// children that come with their parents, in both directions at once.
async fn what_is_passed_on_is_no_conflict(kinds: [Kind; 2]) {
    let link = tied(kinds, "").await;
    link.both("INSERT INTO parents VALUES (1, 'one', 'a'), (2, 'two', 'a'), (3, 'three', 'b'), (4, 'four', 'b')").await;
    link.both("INSERT INTO children VALUES (1, 1), (2, 1), (3, 3), (4, 3)").await;
    link.succeed(&["setup"]).await;
    let swapped = |one: i64, other: i64, codes: [&str; 2]| {
        [
            format!("UPDATE parents SET code = 'for a moment {one}' WHERE id = {one}"),
            format!("UPDATE parents SET code = '{}' WHERE id = {other}", codes[0]),
            format!("UPDATE parents SET code = '{}' WHERE id = {one}", codes[1]),
        ]
    };
    for (node, one, codes) in [(&link.a, 1, ["one", "two"]), (&link.b, 3, ["three", "four"])] {
        // Once in one transaction and once in three: as it was.
        let statements = swapped(one, one + 1, codes);
        transact(node, &statements.each_ref().map(String::as_str)).await;
        for statement in swapped(one, one + 1, [codes[1], codes[0]]) {
            node.run(&statement).await;
        }
        let statements = swapped(one, one + 1, codes);
        transact(node, &statements.each_ref().map(String::as_str)).await;
        let (child, new) = (10 * one, 100 * one);
        transact(
            node,
            &[
                &format!("DELETE FROM children WHERE parent = {one}"),
                &format!("DELETE FROM parents WHERE id = {one}"),
                &format!("INSERT INTO parents VALUES ({new}, '{}', 'has the code of the other')", codes[1]),
                &format!("INSERT INTO children VALUES ({child}, {new})"),
                &format!("INSERT INTO children VALUES ({}, NULL)", child + 1),
            ],
        )
        .await;
    }
    link.catch_up().await;
    assert_eq!(link.same(DUMPS[0]).await.len(), 4);
    assert_eq!(link.same(DUMPS[1]).await.len(), 4);
    assert_eq!(entries(&link).await, Vec::<Json>::new());
    assert_eq!(link.conflicts(&[]).await, Vec::<Json>::new(), "no record without a conflict");
}

/// A constraint that its server looks at when a transaction ends lets rows swap values in any order; the target's does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_swapped_at_once_is_no_conflict() {
    let rules = "direction = \"a->b\"\n";
    let link = tied([Kind::Postgres, Kind::Mariadb], rules).await;
    link.a.run("ALTER TABLE parents DROP CONSTRAINT parents_code").await;
    link.a.run("ALTER TABLE parents ADD CONSTRAINT parents_code UNIQUE (code) DEFERRABLE INITIALLY DEFERRED").await;
    link.both("INSERT INTO parents VALUES (1, 'one', 'x'), (2, 'two', 'x'), (3, 'three', 'x')").await;
    link.succeed(&["setup"]).await;
    link.a.run("UPDATE parents SET code = CASE id WHEN 1 THEN 'two' WHEN 2 THEN 'three' ELSE 'one' END").await;
    link.catch_up().await;
    assert_eq!(link.same(DUMPS[0]).await[0][1].as_deref(), Some("two"));
    assert_eq!(entries(&link).await, Vec::<Json>::new());
    assert_eq!(link.conflicts(&[]).await, Vec::<Json>::new(), "no record without a conflict");
}

/// The entry of a key that says why it waits.
async fn entry(link: &Link, table: &str, key: i64) -> Json {
    let of_key = |entry: &Json| entry["table"] == table && entry["key"][0] == key && !entry["code"].is_null();
    entries(link).await.into_iter().find(of_key).unwrap_or_else(|| panic!("{table} {key} is not in quarantine"))
}

async fn a_person_decides(kinds: [Kind; 2]) {
    let link = tied(kinds, "").await;
    link.both("INSERT INTO parents VALUES (1, 'one', 'x'), (2, 'two', 'x'), (3, 'three', 'x')").await;
    link.succeed(&["setup"]).await;
    // A parent goes that gets a child; two rows get one code; a row gets a child that its target has refused.
    link.b.run("DELETE FROM parents WHERE id IN (1, 2)").await;
    link.a.run("INSERT INTO children VALUES (1, 1), (2, 2)").await;
    link.a.run("INSERT INTO parents VALUES (11, 'the same', 'of a')").await;
    link.b.run("INSERT INTO parents VALUES (12, 'the same', 'of b')").await;
    link.a.run("INSERT INTO children VALUES (11, 11)").await;
    let bridge = link.run();
    link.settle().await;
    for (table, key, code) in [
        ("parents", 1, "reference-broken"),
        ("children", 1, "reference-broken"),
        ("parents", 11, "row-refused"),
        ("parents", 12, "row-refused"),
        ("children", 11, "row-refused"),
    ] {
        assert_eq!(entry(&link, table, key).await["code"], code, "{table} {key}");
    }
    assert_eq!(entry(&link, "parents", 11).await["constraint"], "parents_code");
    let waiting = entry(&link, "children", 11).await["message"].as_str().unwrap().to_owned();
    assert!(
        waiting.contains("parents key (11) and key (12) cannot both live"),
        "it says why its parent waits: {waiting}"
    );
    let broken = entry(&link, "children", 1).await;
    assert_eq!(broken["constraint"], "children_parent");
    let message = broken["message"].as_str().unwrap();
    assert!(message.contains("children key (1) refers by \"children_parent\" to parents key (1)"), "{message}");
    // What has nothing to do with it goes on.
    link.a.run("UPDATE parents SET name = 'goes on' WHERE id = 3").await;
    link.settle().await;
    assert_eq!(link.b.value("SELECT name FROM parents WHERE id = 3").await, "goes on");

    // The parent comes back, and its child with it; of the other one the removal stands, and its child goes.
    let parent = id(&entry(&link, "parents", 1).await);
    link.succeed(&["quarantine", "retry", &parent, "--take", "a"]).await;
    link.succeed(&["quarantine", "retry", &id(&entry(&link, "children", 2).await), "--take", "b"]).await;
    // Another code, and both live.
    link.b.run("UPDATE parents SET code = 'another' WHERE id = 12").await;
    is_healed(&link).await;
    link.settle().await;
    let parents = link.same(DUMPS[0]).await;
    let ids: Vec<_> = parents.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(ids, ["1", "3", "11", "12"]);
    assert_eq!(link.same(DUMPS[1]).await.len(), 2);
    nothing_dangles(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

async fn nothing_dangles(link: &Link) {
    const DANGLING: &str = "SELECT count(*) FROM children c WHERE c.parent IS NOT NULL \
                            AND NOT EXISTS (SELECT 1 FROM parents p WHERE p.id = c.parent)";
    for node in link.nodes() {
        assert_eq!(node.value(DANGLING).await, "0", "on {:?}", node.kind);
    }
}

/// Keys that all writers contend for.
const KEYS: i64 = 12;

/// An application that gives parents children and other codes, and removes them; what its server refuses it leaves.
fn writer(node: &Database, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<(u64, u64)> {
    let (kind, url, stop) = (node.kind, node.url(), stop.clone());
    tokio::spawn(async move {
        let mut client = Client::connect(kind, &url).await;
        let mut dice = SmallRng::seed_from_u64(seed);
        let (mut done, mut refused) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let [key, other, code] = [KEYS, KEYS, KEYS + 2].map(|most| dice.random_range(0..most));
            let insert =
                if kind == Kind::Postgres { ("INSERT", "ON CONFLICT DO NOTHING") } else { ("INSERT IGNORE", "") };
            let statements = match dice.random_range(0..8) {
                0 | 1 => vec![format!("UPDATE parents SET code = 'code {code}', name = 'n{done}' WHERE id = {key}")],
                2 => vec![format!("{} INTO parents VALUES ({key}, 'code {code}', 'n{done}') {}", insert.0, insert.1)],
                3 => vec![
                    format!("UPDATE parents SET code = 'for a moment' WHERE id = {key}"),
                    format!("UPDATE parents SET code = 'code {code}' WHERE id = {other}"),
                    format!("UPDATE parents SET code = 'code {}' WHERE id = {key}", (code + 1) % (KEYS + 2)),
                ],
                4 => vec![
                    format!("DELETE FROM children WHERE parent = {key}"),
                    format!("DELETE FROM parents WHERE id = {key}"),
                ],
                5 => vec![format!("DELETE FROM parents WHERE id = {key}")],
                _ => vec![
                    format!("DELETE FROM children WHERE id = {other}"),
                    format!("INSERT INTO children VALUES ({other}, {key})"),
                ],
            };
            client.run("BEGIN").await;
            let mut all = true;
            for statement in &statements {
                all = all && client.try_run(statement).await.is_ok();
            }
            client.run(if all { "COMMIT" } else { "ROLLBACK" }).await;
            (done, refused) = if all { (done + 1, refused) } else { (done, refused + 1) };
            sleep(Duration::from_millis(dice.random_range(2..20))).await;
        }
        (done, refused)
    })
}

/// Where rules decide, all is settled by itself, however often the bridge is killed.
async fn under_kills(kinds: [Kind; 2]) {
    let mut dice = workload::dice();
    let link = tied(kinds, "unique_conflict = \"rule\"\nforeign_key = \"delete_child\"\n").await;
    link.succeed(&["setup"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for node in [&link.a, &link.a, &link.b, &link.b] {
        writers.push(writer(node, dice.random(), &stop));
    }
    for _ in 0..workload::kills() {
        let bridge = link.run();
        bridge.works().await;
        sleep(Duration::from_millis(dice.random_range(0..1_500))).await;
        bridge.kill();
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    let bridge = link.run();
    link.settle().await;
    is_healed(&link).await;
    link.settle().await;
    let rows = [link.same(DUMPS[0]).await.len(), link.same(DUMPS[1]).await.len()];
    nothing_dangles(&link).await;
    let records = link.conflicts(&[]).await;
    let says = |word: &str| records.iter().filter(|record| record["rule"].as_str().unwrap().contains(word)).count();
    println!(
        "{written:?} transactions done and refused; {rows:?} rows; {} records, {} gave way, {} removed",
        records.len(),
        says("unique_conflict"),
        says("delete_child")
    );
    assert!(written.iter().all(|(done, _)| *done > 10), "{written:?}");
    assert_eq!(bridge.stop().await, 0);
}

/// What cannot be watched is refused, unless the operator answers for it.
#[tokio::test(flavor = "multi_thread")]
async fn references_out_of_the_bridge_are_found() {
    let link = tied([Kind::Postgres, Kind::Mariadb], "").await;
    let found = async |link: &Link, code: &str| {
        let (_, findings) = link.check().await;
        findings.into_iter().filter(|finding| finding["code"] == code).collect::<Vec<_>>()
    };
    assert_eq!(found(&link, "foreign-key-outside").await, Vec::<Json>::new());
    link.configure("[[tables]]\nname = \"children\"\n");
    let outside = found(&link, "foreign-key-outside").await;
    assert_eq!(outside.len(), 2, "{outside:?}");
    for (finding, node) in outside.iter().zip(["a", "b"]) {
        assert_eq!(finding["severity"], "blocking");
        let actual = finding["actual"].as_str().unwrap();
        assert!(actual.contains("children_parent refers to") && actual.ends_with(&format!("on {node}")), "{actual}");
    }
    link.configure("[[tables]]\nname = \"parents\"\naccept = [\"foreign-key-outside\"]\n");
    let outside = found(&link, "foreign-key-outside").await;
    assert_eq!(outside.len(), 2, "{outside:?}");
    assert!(outside.iter().all(|finding| finding["severity"] == "warning"), "{outside:?}");
    assert!(outside[0]["actual"].as_str().unwrap().contains("refers to it by children_parent"), "{outside:?}");

    // A rule that puts rows back has to know them by their key.
    for node in link.nodes() {
        node.run("ALTER TABLE children ADD code varchar(60)").await;
        node.run("ALTER TABLE children ADD CONSTRAINT by_code FOREIGN KEY (code) REFERENCES parents (code)").await;
    }
    let rule = "foreign_key = \"delete_child\"\n";
    link.configure(&format!("[[tables]]\nname = \"parents\"\n[[tables]]\nname = \"children\"\n{rule}"));
    let unfit = found(&link, "foreign-key-rule-unfit").await;
    assert_eq!(unfit.len(), 2, "{unfit:?}");
    assert!(unfit[0]["actual"].as_str().unwrap().contains("by_code on a refers to other columns of"), "{unfit:?}");
    assert_eq!(found(&link, "foreign-key-outside").await, Vec::<Json>::new());
}

/// What PostgreSQL 18 calls a constraint and never checks is none to the bridge; spans of time that may not overlap are one like any other; and
/// references over a period are told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "full: the newer servers"]
async fn forms_of_postgres_18() {
    let tables =
        ["orders", "parts", "bookings"].map(|name| format!("[[tables]]\nname = \"{name}\"\ndirection = \"b->a\"\n"));
    let options = LinkOptions { configuration: tables.concat(), ..LinkOptions::default() };
    let link = Link::start([Kind::Postgres, Kind::Mariadb].map(Release::newer), options).await;
    link.create("orders", "id bigint PRIMARY KEY").await;
    let reference = "CONSTRAINT of_order FOREIGN KEY (part_of) REFERENCES orders (id) NOT ENFORCED";
    link.a.create("parts", &format!("id bigint PRIMARY KEY, part_of bigint, {reference}")).await;
    link.b.create("parts", "id bigint PRIMARY KEY, part_of bigint").await;
    let alone = "CONSTRAINT alone UNIQUE (rooms, hours WITHOUT OVERLAPS)";
    link.a.create("bookings", &format!("id bigint PRIMARY KEY, rooms int4range, hours int4range, {alone}")).await;
    link.b.create("bookings", "id bigint PRIMARY KEY, rooms varchar(60), hours varchar(60)").await;
    link.succeed(&["setup"]).await;

    link.b.run("INSERT INTO orders VALUES (1)").await;
    link.b.run("INSERT INTO parts VALUES (1, 1), (2, 99)").await;
    link.b.run("DELETE FROM orders WHERE id = 1").await;
    link.b.run("INSERT INTO bookings VALUES (1, '[1,2)', '[8,12)'), (2, '[1,2)', '[12,14)')").await;
    link.b.run("INSERT INTO bookings VALUES (3, '[1,2)', '[13,15)')").await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id, part_of FROM parts ORDER BY id").await.len(), 2);
    assert_eq!(link.a.value("SELECT count(*) FROM orders").await, "0");
    let waiting = entries(&link).await;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!((&waiting[0]["table"], &waiting[0]["constraint"]), (&Json::from("bookings"), &Json::from("alone")));
    let bridge = link.run();
    link.b.run("UPDATE bookings SET hours = '[14,15)' WHERE id = 3").await;
    is_healed(&link).await;
    assert_eq!(bridge.stop().await, 0);
    assert_eq!(link.same("SELECT id, rooms, hours FROM bookings ORDER BY id").await.len(), 3);

    link.a
        .run("CREATE TABLE shifts (rooms int4range, hours int4range, PRIMARY KEY (rooms, hours WITHOUT OVERLAPS))")
        .await;
    link.a.run("INSERT INTO shifts VALUES ('[1,2)', '[8,20)')").await;
    let covered = "FOREIGN KEY (rooms, PERIOD hours) REFERENCES shifts (rooms, PERIOD hours)";
    link.a.run(&format!("ALTER TABLE bookings ADD CONSTRAINT covered {covered}")).await;
    link.a.run("ALTER TABLE shifts REPLICA IDENTITY FULL").await;
    link.b.create("shifts", "rooms varchar(60), hours varchar(60), PRIMARY KEY (rooms, hours)").await;
    link.configure(&["bookings", "shifts"].map(|name| format!("[[tables]]\nname = \"{name}\"\n")).concat());
    let (_, findings) = link.check().await;
    let outside: Vec<_> = findings.iter().filter(|finding| finding["code"] == "foreign-key-outside").collect();
    assert_eq!(outside.len(), 1, "{findings:?}");
    assert!(outside[0]["actual"].as_str().unwrap().contains("covered to"), "{outside:?}");
}
