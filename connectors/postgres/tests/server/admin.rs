//! Set-up, teardown, and what check looks at.

use std::time::{Duration, Instant};

use pontoon_core::{
    Checkpoint, Code, Key, Position, Resolution, Row, Value,
    new_key::{Answer, NewKey, Of},
    node::{Admin, Applied, Applier, Node, Severity, TableBatch, Tried},
    quarantine::{Ask, Asked, Stored, StoredWrite, What},
    state::NodeState,
};

use crate::support::{
    BRIDGE, Bench, DATABASE, PATIENCE, connect, map, names, options, other, plan_of, record_of, server, tag,
};

const ITEMS: &str =
    "CREATE TABLE items (id int PRIMARY KEY, note text, doc json); ALTER TABLE items REPLICA IDENTITY FULL";

async fn findings(bench: &Bench) -> Vec<(&'static str, Severity, Option<String>)> {
    let found = bench.node.findings(&bench.plan).await.unwrap();
    found
        .into_iter()
        .filter(|finding| finding.severity != Severity::Ok && finding.code != "wal-retention")
        .map(|finding| (finding.code, finding.severity, finding.remedy))
        .collect()
}

#[tokio::test]
async fn setup_is_safe_to_repeat_and_teardown_leaves_nothing() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    assert_eq!(findings(&bench).await, []);
    bench.run("INSERT INTO items VALUES (1)").await;
    // Again, also after something was written: nothing is lost by it.
    assert_eq!(bench.node.setup(&bench.plan).await.unwrap(), bench.start);
    let later = Checkpoint { position: "binlog.000009:4".parse().unwrap(), ..other() };
    bench.node.install_checkpoint(&bench.plan, &later).await.unwrap();
    let state = bench.node.state(bench.tables()).await.unwrap();
    assert_eq!(
        state,
        NodeState { checkpoint: Some(other()), tables: vec![("public.items".into(), true)], ..NodeState::default() }
    );
    // Teardown is refused while the bridge runs.
    let pontoon_core::node::LeaseAttempt::Ours(mut lease) = bench.node.try_lease().await.unwrap() else { panic!() };
    lease.take_over("host 7").await.unwrap();
    let refused = bench.node.teardown(&bench.plan).await.unwrap_err();
    assert_eq!(refused.code(), Code::Config);
    assert!(refused.message().contains("host 7"));
    drop(lease);
    let left = loop {
        match bench.node.teardown(&bench.plan).await {
            Ok(left) => break left,
            Err(error) => assert_eq!(error.code(), Code::Config, "{error}"),
        }
    };
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(bench.node.teardown(&bench.plan).await.unwrap(), Vec::<String>::new());
    let things: i64 = bench
        .sql
        .query_one(
            "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)
                + (SELECT count(*) FROM pg_replication_origin) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'pontoon')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(things, 0);
    assert_eq!(bench.node.state(bench.tables()).await.unwrap_err().code(), Code::NotSetUp);
    assert!(bench.node.try_lease().await.err().unwrap().code() == Code::NotSetUp);
}

#[tokio::test]
async fn the_superuser_needs_no_printed_sql() {
    let (server, sql) = server(ITEMS).await;
    let options = pontoon_core::node::NodeOptions {
        url: server.url("postgres", crate::support::DATABASE),
        password: Some(pontoon_core::node::Secret::new(server.password())),
        ..options(&server, BRIDGE)
    };
    let node = pontoon_postgres::node(options).unwrap();
    let plan = plan_of(map(&node, &names(&["items"]), &[]).await);
    assert!(!node.teardown_sql(&plan).await.unwrap().is_empty());
    node.setup(&plan).await.unwrap();
    node.install_checkpoint(&plan, &other()).await.unwrap();
    for statement in node.teardown_sql(&plan).await.unwrap() {
        sql.batch_execute(&statement).await.unwrap();
    }
    assert_eq!(node.teardown(&plan).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_plain_user_is_told_what_is_missing() {
    let (server, sql) = server(ITEMS).await;
    let node = pontoon_postgres::node(options(&server, BRIDGE)).unwrap();
    let plan = plan_of(map(&node, &names(&["items"]), &[]).await);
    let error = node.setup(&plan).await.unwrap_err();
    assert_eq!(error.code(), Code::PrivilegeMissing, "{error}");
    assert!(error.remedy().unwrap().contains("--print-sql"));
    let session = node.open_session(Applier::Direction, 1, &plan.tables).await;
    assert_eq!(session.err().unwrap().code(), Code::PrivilegeMissing);
    let bench = Bench { start: other(), node, plan, sql, server };
    let found = findings(&bench).await;
    let blocking: Vec<_> =
        found.iter().filter(|(_, severity, _)| *severity == Severity::Blocking).map(|found| found.0).collect();
    assert_eq!(blocking, ["privilege-replication", "privilege-origin", "privilege-replica-role", "privilege-table"]);
    // Each remedy is a statement that mends it.
    for (_, severity, remedy) in found {
        if severity == Severity::Blocking {
            bench.run(&remedy.unwrap()).await;
        }
    }
    assert!(findings(&bench).await.iter().all(|(_, severity, _)| *severity == Severity::Warning));
}

#[tokio::test]
async fn check_names_what_is_in_the_way() {
    let bench = Bench::start(
        "CREATE TABLE items (id int PRIMARY KEY DEFERRABLE, note text);
         CREATE TABLE nokey (id int);
         CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
         CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
         ALTER TABLE items ENABLE ROW LEVEL SECURITY;
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER always BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION f();
         ALTER TABLE items ENABLE ALWAYS TRIGGER always;
         CREATE TRIGGER harmless BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION f()",
        &["items", "nokey", "parts"],
    )
    .await;
    let found = findings(&bench).await;
    let codes: Vec<_> = found.iter().map(|found| found.0).collect();
    assert_eq!(
        codes,
        [
            "row-security",
            "primary-key",
            "constraint-deferrable",
            "trigger",
            "replica-identity",
            "replica-identity",
            "replica-identity",
            "replica-identity",
            "partitioned",
        ]
    );
    let remedies: Vec<_> =
        found.iter().filter(|found| found.0 == "replica-identity").map(|found| found.2.clone().unwrap()).collect();
    assert!(remedies.contains(&"ALTER TABLE \"public\".\"parts_1\" REPLICA IDENTITY FULL".into()), "{remedies:?}");
    let sql = connect(&bench.server, "postgres").await;
    sql.batch_execute("ALTER SYSTEM SET wal_level = 'replica'").await.unwrap();
    drop(sql);
    // A server with slots does not start without a log for them.
    bench.run("SELECT pg_drop_replication_slot('pontoon_shop_stock')").await;
    let mut bench = bench;
    bench.server.restart().await.unwrap();
    let found = findings(&bench).await;
    assert!(found.iter().any(|found| found.0 == "wal-level" && found.1 == Severity::Blocking), "{found:?}");
}

#[tokio::test]
async fn a_deferrable_key_lets_duplicates_in_and_is_refused() {
    // The reason for the finding: were it ever otherwise, it could go.
    let (_server, sql) = server("CREATE TABLE items (id int PRIMARY KEY DEFERRABLE)").await;
    sql.batch_execute(
        "SET session_replication_role = replica; INSERT INTO items VALUES (1); INSERT INTO items VALUES (1)",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn two_bridges_share_a_database_and_a_name_is_taken_once() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let second = pontoon_postgres::node(options(&bench.server, "shop_stock")).unwrap();
    for statement in second.setup_sql(&bench.plan).await.unwrap() {
        bench.run(&statement).await;
    }
    second.setup(&bench.plan).await.unwrap();
    second.install_checkpoint(&bench.plan, &other()).await.unwrap();
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().other_bridges, ["shop_stock"]);
    let mut elsewhere = bench.plan.clone();
    elsewhere.other_log = pontoon_core::LogIdentity("mysql:another".into());
    let taken = bench.node.install_checkpoint(&elsewhere, &other()).await.unwrap_err();
    assert_eq!(taken.code(), Code::BridgeNameTaken);
    assert_eq!(bench.node.teardown(&bench.plan).await.unwrap(), Vec::<String>::new());
    assert!(second.state(bench.tables()).await.unwrap().checkpoint.is_some());
    assert_eq!(second.teardown(&bench.plan).await.unwrap(), Vec::<String>::new());
    assert_eq!(second.state(bench.tables()).await.unwrap_err().code(), Code::NotSetUp);
}

#[tokio::test]
async fn setup_keeps_the_publication_in_step() {
    let mut bench = Bench::start(
        &format!("{ITEMS}; CREATE TABLE more (id int PRIMARY KEY); ALTER TABLE more REPLICA IDENTITY FULL"),
        &["items"],
    )
    .await;
    bench.plan = plan_of(map(&bench.node, &names(&["items", "more"]), &[]).await);
    // A plain user does not own the tables.
    assert_eq!(bench.node.setup(&bench.plan).await.unwrap_err().code(), Code::PrivilegeMissing);
    bench.run("ALTER TABLE items OWNER TO \"bridge \"\"user\"; ALTER TABLE more OWNER TO \"bridge \"\"user\"").await;
    bench.node.setup(&bench.plan).await.unwrap();
    let mut reader = bench.reader().await;
    bench.run("INSERT INTO more VALUES (1)").await;
    assert_eq!(bench.fragments(&mut reader).await.len(), 1);
}

#[tokio::test]
async fn looks_do_not_wait_for_each_other() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let other = connect(&bench.server, DATABASE).await;
    other.batch_execute("BEGIN; LOCK TABLE pontoon.control").await.unwrap();
    let held_up = bench.node.paused();
    tokio::pin!(held_up);
    let at_once = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while bench.sql.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.node.log_status(None).await.unwrap();
    };
    tokio::select! {
        found = &mut held_up => panic!("{found:?}"),
        () = at_once => {}
    }
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(held_up.await.unwrap(), None);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("UPDATE pontoon.control SET number = 99 WHERE name = 'format'").await;
    assert_eq!(bench.node.state(bench.tables()).await.unwrap_err().code(), Code::FormatUnknown);
    assert_eq!(bench.node.try_lease().await.err().unwrap().code(), Code::FormatUnknown);
    assert_eq!(bench.node.setup(&bench.plan).await.unwrap_err().code(), Code::FormatUnknown);
}

#[tokio::test]
async fn resolutions_are_kept_and_read_back() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let row = |doc: Value| Row(vec![Value::Integer(7), Value::Text("né\"".into()), doc]);
    let lsn = |lsn| Some(Position::Lsn(lsn));
    let resolution = |id| Resolution {
        id,
        group: 1,
        table,
        key: Key(vec![Value::Integer(7)]),
        other_fence: Some("binlog.000001:99".parse().unwrap()),
        own_fence: lsn(99),
        own_row: Some(row(Value::Null)),
        other_row: Some(row(Value::Json("null".into()))),
        verdict: None,
        ancestor: Some(row(Value::Json("[1]".into()))),
        columns: Some(r#"{"shop":["note"]}"#.into()),
        commit_time: 123,
        rule: "last_writer_wins: shop".into(),
    };
    let mut session = bench.session().await;
    session.begin(None).await.unwrap();
    session.lock(table, &[Key(vec![Value::Integer(7)])]).await.unwrap();
    assert_eq!(session.highest_id().await.unwrap(), 0);
    session.tag(&tag(5, 6)).await.unwrap();
    session.record(&[resolution(1)]).await.unwrap();
    session.commit().await.unwrap();
    session.begin(Some(&tag(5, 6))).await.unwrap();
    let other = Resolution { key: Key(vec![Value::Integer(8)]), own_row: None, columns: None, ..resolution(3) };
    session.record(&[resolution(2), other.clone()]).await.unwrap();
    assert_eq!(session.highest_id().await.unwrap(), 3);
    session.commit().await.unwrap();
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().resolutions, [resolution(2), other]);
    session.begin(Some(&tag(6, 6))).await.unwrap();
    session.retire(&[2, 3]).await.unwrap();
    for id in [1, 2] {
        assert_eq!(session.recorded(id).await.unwrap(), Some(resolution(id)), "in force or not");
    }
    assert_eq!(session.recorded(4).await.unwrap(), None);
    session.commit().await.unwrap();
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().resolutions, []);
    let kept: i64 = bench.sql.query_one("SELECT count(*) FROM pontoon.resolution", &[]).await.unwrap().get(0);
    assert_eq!(kept, 3);
}

/// Thousands of conflicts at once: what is in force of other keys is not read for each of them.
#[tokio::test]
async fn of_records_those_of_the_same_keys_are_read() {
    const COUNT: i64 = 2_000;
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut session = bench.session().await;
    let table = bench.tables()[0].id;
    let records: Vec<Resolution> = (0..COUNT + 100).map(|id| record_of(table, id, 1 + id % COUNT)).collect();
    for records in records.chunks(500) {
        session.begin(Some(&tag(5, 6))).await.unwrap();
        session.record(records).await.unwrap();
        session.commit().await.unwrap();
    }
    let stats = "SELECT n_tup_ins, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'resolution'";
    // A server process tells what it has read when it ends.
    drop(session);
    let began = Instant::now();
    let fetched = loop {
        let row = bench.sql.query_one(stats, &[]).await.unwrap();
        if row.get::<_, i64>(0) == COUNT + 100 {
            break row.get::<_, i64>(1);
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(fetched, 100);
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().resolutions.len() as i64, COUNT);
}

#[tokio::test]
async fn the_quarantine_reads_back() {
    let ddl = "CREATE TABLE items (id int PRIMARY KEY, name text, at timestamp UNIQUE);
        ALTER TABLE items REPLICA IDENTITY FULL";
    let bench = Bench::start(ddl, &["items"]).await;
    let table = bench.tables()[0].id;
    let row = |id: i128, name: &str, at: Value| Row(vec![Value::Integer(id), Value::Text(name.into()), at]);
    let key = |id: i128| Key(vec![Value::Integer(id)]);
    let mut session = bench.session().await;

    // A row that is refused is taken back alone.
    session.begin(Some(&tag(5, 6))).await.unwrap();
    let inserts = |rows: &[Row]| TableBatch { inserts: rows.to_vec(), ..TableBatch::default() };
    let at = Value::DateTime(7_000_000);
    session.savepoint().await.unwrap();
    assert_eq!(session.apply(table, &inserts(&[row(1, "a", at.clone())])).await.unwrap(), Applied::All);
    session.savepoint().await.unwrap();
    let refused = session.apply(table, &inserts(&[row(2, "b", Value::Null), row(3, "c", at.clone())])).await;
    let refused = refused.unwrap_err();
    assert!(refused.is_of_a_row() && refused.constraint() == Some("items_at_key"), "{refused:?}");
    session.rollback_to_savepoint().await.unwrap();

    let held = row(3, "né\"", Value::Unmapped("infinity".into()));
    let entry = |id: i64, what, refusal: Option<&pontoon_core::Error>| Stored {
        id,
        table,
        key: key(3),
        what,
        position: Some(format!("binlog.000001:{id}").parse().unwrap()),
        transaction: Some("0-1-7".into()),
        commit_time: 5,
        refusal: refusal.cloned(),
        due_in: Duration::from_secs(60),
    };
    let change = |moved| What::Change { before: Some(held.clone()), after: None, moved };
    let settlement = What::Settlement { before: None, after: Some(row(3, "d", Value::Null)) };
    let entries = [
        entry(3, change(None), Some(&refused)),
        entry(4, change(Some(key(9))), None),
        entry(5, What::Own, None),
        Stored { position: None, ..entry(6, settlement, Some(&refused)) },
    ];
    session.store(&entries).await.unwrap();
    let write = |id: i64, own: bool, looked| StoredWrite {
        id,
        position: format!("binlog.000001:{id}").parse().unwrap(),
        commit_time: 5,
        own,
        before: (!own).then(|| held.clone()),
        after: None,
        looked,
    };
    let stored = [write(3, false, false), write(4, false, false), write(5, true, false)];
    assert_eq!(session.stored(table, &key(3), 0).await.unwrap(), stored);
    assert_eq!(session.highest_id().await.unwrap(), 6);
    session.commit().await.unwrap();
    session.begin(None).await.unwrap();
    assert_eq!(session.read(table, &[key(1), key(2)]).await.unwrap(), [Some(row(1, "a", at)), None]);
    session.rollback().await.unwrap();

    let state = bench.node.state(bench.tables()).await.unwrap();
    let [found] = &state.quarantine[..] else { panic!("{state:?}") };
    assert_eq!((&found.key, found.head, found.has_changes, found.attempts), (&key(3), Some(3), true, 1));
    assert_eq!((&found.ties, state.highest_id), (&vec![key(9)], 6));
    assert!(found.due_in > Duration::from_secs(50) && found.age < Duration::from_secs(50), "{found:?}");
    let shown = bench.node.quarantine(9).await.unwrap();
    assert_eq!(shown.len(), 4);
    let before = r#"{"":{"unmapped":["at"]},"at":"infinity","id":3,"name":"né\""}"#;
    assert_eq!((shown[0].before.as_deref(), shown[0].attempts), (Some(before), 1));
    assert_eq!((shown[0].code.as_deref(), shown[1].code.as_deref()), (Some("row-refused"), None));
    assert_eq!(shown[0].next_attempt.unwrap() - shown[0].since, 60_000_000);
    let counts = bench.node.quarantine_counts().await.unwrap();
    assert_eq!((counts.keys, counts.entries, counts.oldest), (1, 4, Some(shown[0].since)));

    bench.node.ask(&[4], Ask::Discard).await.unwrap();
    assert_eq!(bench.node.asked(bench.tables()).await.unwrap(), [], "it only waits behind another");
    bench.node.ask(&[3], Ask::Discard).await.unwrap();
    let asked = Asked { table, key: key(3), ask: Ask::Discard };
    assert_eq!(bench.node.asked(bench.tables()).await.unwrap(), [asked]);
    session.begin(Some(&tag(6, 6))).await.unwrap();
    assert_eq!(session.stored(table, &key(3), 0).await.unwrap()[..2], [write(3, false, true), write(4, false, true)]);
    let tried = Tried { head: Some(3), attempts: 2, refusal: refused, due_in: Duration::from_secs(600), decided: true };
    session.tried(table, &key(3), &Tried { decided: false, ..tried.clone() }).await.unwrap();
    session.commit().await.unwrap();
    let asked =
        async || bench.node.asked(bench.tables()).await.unwrap().into_iter().map(|asked| asked.ask).collect::<Vec<_>>();
    assert_eq!(asked().await, [Ask::Discard], "it was not tried for that");
    for ask in [Ask::TakeOwn, Ask::TakeOther, Ask::TakeOwnApart, Ask::TakeOtherApart] {
        bench.node.ask(&[3, 4], ask).await.unwrap();
        assert_eq!(asked().await, [ask]);
    }
    session.begin(Some(&tag(7, 7))).await.unwrap();
    assert_eq!(session.stored(table, &key(3), 0).await.unwrap()[..2], [write(3, false, true), write(4, false, true)]);
    session.tried(table, &key(3), &tried).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(bench.node.asked(bench.tables()).await.unwrap(), []);
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().quarantine[0].attempts, 2);
    session.begin(Some(&tag(7, 6))).await.unwrap();
    session.release(table, &[key(3)]).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().quarantine, []);
}

#[tokio::test]
async fn what_is_asked_of_a_rows_key_is_answered_once() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let keys = [7, 8].map(|id| Key(vec![Value::Integer(id)]));
    let request = |of: Of, key: &Key, answer: Option<Answer>| {
        NewKey { of, table, key: key.clone() }.request(&bench.tables()[0], answer)
    };
    let asks = async |of: Of, key: &Key| bench.node.ask_new_key(&request(of, key, None)).await.unwrap();
    let waits = |of: Of, key: &Key| NewKey { of, table, key: key.clone() };
    let (entry, record) = (Of::Entry(1), Of::Record(2));
    assert_eq!(bench.node.new_key(record).await.unwrap(), None);
    asks(entry, &keys[0]).await;
    asks(record, &keys[0]).await;
    // The last one counts, until it is answered.
    asks(record, &keys[1]).await;
    let all = [waits(entry, &keys[0]), waits(record, &keys[1])];
    assert_eq!(bench.node.requests(bench.tables()).await.unwrap().new_keys, all);
    let mut session = bench.session().await;
    let why = Answer::Refused("a has \"ä\" \\ 'one'".into());
    session.begin(Some(&tag(5, 5))).await.unwrap();
    assert!(!session.answer_new_key(&waits(record, &keys[0]), &why).await.unwrap(), "it is not what is asked for now");
    assert!(session.answer_new_key(&all[1], &why).await.unwrap());
    assert!(session.answer_new_key(&all[0], &Answer::Given).await.unwrap());
    session.commit().await.unwrap();
    assert_eq!(bench.node.requests(bench.tables()).await.unwrap().new_keys, []);
    assert_eq!(bench.node.new_key(entry).await.unwrap(), None, "its entry tells");
    assert_eq!(bench.node.new_key(record).await.unwrap(), Some(request(record, &keys[1], Some(why))));
    // What was refused can be asked for again, what was given cannot.
    asks(record, &keys[0]).await;
    assert_eq!(bench.node.new_key(record).await.unwrap(), Some(request(record, &keys[0], None)));
    session.begin(Some(&tag(5, 5))).await.unwrap();
    assert!(session.answer_new_key(&waits(record, &keys[0]), &Answer::Given).await.unwrap());
    assert!(!session.answer_new_key(&waits(record, &keys[0]), &Answer::Given).await.unwrap(), "it is answered");
    session.commit().await.unwrap();
    asks(record, &keys[1]).await;
    assert_eq!(bench.node.new_key(record).await.unwrap(), Some(request(record, &keys[0], Some(Answer::Given))));
    assert_eq!(bench.node.requests(bench.tables()).await.unwrap().new_keys, []);
}
