//! Sessions, lease, state, set-up and rights, on real servers.

use std::{sync::Arc, time::Duration};

use mysql_async::prelude::Queryable;
use pontoon_core::{
    Checkpoint, Code, Key, LogIdentity, Position, Resolution, Row, Span, TableId, TableName, Tag, Value,
    new_key::{Answer, NewKey, Of},
    node::{
        Admin, Applied, Applier, Lease, LeaseAttempt, Mark, Node, PassedOver, Session, SetupPlan, Severity, TableBatch,
        Tables, Tried, UpdateGroup,
    },
    quarantine::{Ask, Asked, Stored, StoredWrite, What},
    state::{Arrangement, NotedLogs},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind, Server};

use crate::support::{int, map, node, node_as, plan, read_to, root, run, set_up, start, text, transaction};

#[tokio::test]
async fn mariadb() {
    all(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    all(Kind::Mysql).await;
}

async fn all(kind: Kind) {
    let server = start(kind).await;
    writes_are_conditional(&server).await;
    an_old_session_is_fenced(&server).await;
    tables_are_set_aside_under_the_token(&server).await;
    logs_get_their_new_names_under_the_token(&server).await;
    a_promotion_moves_every_place_that_is_kept(&server).await;
    state_is_kept_and_taken_down(&server).await;
    looks_go_over_one_connection_that_may_end(&server).await;
    the_quarantine_reads_back(&server).await;
    what_is_asked_of_a_rows_key_is_answered_once(&server).await;
    a_plain_user_can_do_it_all(&server).await;
    check_names_what_is_wrong(&server).await;
    refusals_have_their_codes(&server).await;
}

async fn table(server: &Server, database: &str) -> (Arc<MysqlNode>, Tables) {
    let mut root = root(server).await;
    run(
        &mut root,
        &[
            &format!("CREATE DATABASE {database}"),
            &format!(
                "CREATE TABLE {database}.t (a varchar(20) CHARACTER SET latin1, b int, v varchar(20), \
                 u int UNIQUE, moved timestamp(6) NULL ON UPDATE CURRENT_TIMESTAMP(6), n int NOT NULL AUTO_INCREMENT, \
                 PRIMARY KEY (a, b), KEY (n)) CHARACTER SET utf8mb4"
            ),
        ],
    )
    .await;
    let node = node(server, database, database);
    let tables = map(&node, &[TableName::new(database, "t")]).await;
    (node, tables)
}

fn row(a: &str, b: i128, v: &str, u: Value) -> Row {
    Row(vec![text(a), int(b), text(v), u, Value::Null, int(0)])
}

async fn lease(node: &MysqlNode, holder: &str) -> (Box<dyn Lease>, i64) {
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("held") };
    let token = lease.take_over(holder).await.unwrap();
    (lease, token)
}

fn tag() -> Tag {
    Tag { position: None, commit_time: 1 }
}

async fn apply(session: &mut Box<dyn Session>, batch: TableBatch) -> Result<Applied, Code> {
    session.begin(Some(&tag())).await.unwrap();
    let applied = session.apply(TableId(0), &batch).await;
    if applied == Ok(Applied::All) {
        session.commit().await.unwrap()
    } else {
        session.rollback().await.unwrap()
    }
    applied.map_err(|error| {
        assert!(error.message().contains("t"), "{error}");
        error.code()
    })
}

async fn read(session: &mut Box<dyn Session>, keys: &[Key]) -> Vec<Option<Row>> {
    session.begin(None).await.unwrap();
    let found = session.read(TableId(0), keys).await.unwrap();
    session.rollback().await.unwrap();
    found
}

async fn highest_id(session: &mut Box<dyn Session>) -> i64 {
    session.begin(None).await.unwrap();
    let highest = session.highest_id().await.unwrap();
    session.rollback().await.unwrap();
    highest
}

async fn writes_are_conditional(server: &Server) {
    let (node, tables) = table(server, "cond").await;
    let mut reader = set_up(&node, &tables).await;
    let (_lease, token) = lease(&node, "one").await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
    let inserts = |rows: &[Row]| TableBatch { inserts: rows.to_vec(), ..Default::default() };
    let deletes = |rows: &[Row]| TableBatch { deletes: rows.to_vec(), ..Default::default() };
    let update = |before: &Row, after: &Row| TableBatch {
        updates: vec![UpdateGroup {
            changed: vec![2],
            rows: vec![(before.clone(), after.clone())],
            ..UpdateGroup::default()
        }],
        ..Default::default()
    };
    let (one, two) = (row("é", 1, "x", int(1)), row("B", 2, "y", Value::Null));
    // The server would commit it by itself, and without a tag.
    let outside = session.apply(TableId(0), &inserts(std::slice::from_ref(&one))).await.unwrap_err();
    assert_eq!(outside.code(), Code::Internal, "{outside}");
    assert_eq!(session.commit().await.unwrap_err().code(), Code::Internal);
    assert_eq!(apply(&mut session, inserts(&[one.clone(), two.clone()])).await, Ok(Applied::All));
    // A key that is there, by the key's own collation; zero stayed zero in a counter.
    assert_eq!(apply(&mut session, inserts(&[row("c", 3, "", Value::Null), one.clone()])).await, Ok(Applied::Missed));
    assert_eq!(apply(&mut session, inserts(&[row("b", 2, "", Value::Null)])).await, Ok(Applied::Missed));
    // Another unique key is no key of the row: refused by name.
    assert_eq!(apply(&mut session, inserts(&[row("c", 3, "", int(1))])).await, Err(Code::RowRefused));
    // Text counts by its bytes, whatever the collation says.
    assert_eq!(apply(&mut session, deletes(&[row("b", 2, "y", Value::Null)])).await, Ok(Applied::Missed));
    assert_eq!(apply(&mut session, deletes(&[row("B", 2, "Y", Value::Null)])).await, Ok(Applied::Missed));
    assert_eq!(apply(&mut session, deletes(&[row("B", 2, "y ", Value::Null)])).await, Ok(Applied::Missed));
    // An update to what is there is found; the column that moves by itself does not.
    let same = one.clone();
    assert_eq!(apply(&mut session, update(&one, &same)).await, Ok(Applied::All));
    let changed = row("é", 1, "z", int(1));
    assert_eq!(apply(&mut session, update(&one, &changed)).await, Ok(Applied::All));
    assert_eq!(apply(&mut session, update(&one, &changed)).await, Ok(Applied::Missed));
    let keys = [Key(vec![text("B"), int(2)]), Key(vec![text("zz"), int(9)]), Key(vec![text("é"), int(1)])];
    assert_eq!(read(&mut session, &keys).await, [Some(two.clone()), None, Some(changed.clone())]);
    // All in one batch, in their order.
    let batch = TableBatch {
        deletes: vec![two.clone()],
        updates: vec![UpdateGroup {
            changed: vec![2, 3],
            rows: vec![(changed.clone(), row("é", 1, "w", int(2)))],
            ..UpdateGroup::default()
        }],
        inserts: vec![row("c", 1, "", int(1))],
    };
    assert_eq!(apply(&mut session, batch).await, Ok(Applied::All));
    // What does not fit is refused.
    assert_eq!(apply(&mut session, inserts(&[row("d", 1, &"x".repeat(21), Value::Null)])).await, Err(Code::RowRefused));
    assert_eq!(apply(&mut session, inserts(&[row("中", 1, "", Value::Null)])).await, Err(Code::RowRefused));
    let mut none = row("d", 1, "", Value::Null);
    none.0[5] = Value::Null;
    assert_eq!(apply(&mut session, inserts(&[none])).await, Err(Code::RowRefused));

    // A lock is seen, waited for and given up.
    let key = [Key(vec![text("é"), int(1)])];
    let mut conn = root(server).await;
    run(&mut conn, &["BEGIN", "UPDATE cond.t SET v = 'q' WHERE b = 1 AND a = 'é'"]).await;
    session.begin(None).await.unwrap();
    let error = session.lock(TableId(0), &key).await.unwrap_err();
    assert_eq!(error.code(), Code::Contention, "{error}");
    session.rollback().await.unwrap();
    run(&mut conn, &["COMMIT"]).await;
    // Locked first, tagged then: the tag still leads the transaction.
    session.begin(None).await.unwrap();
    let locked = session.lock(TableId(0), &key).await.unwrap().remove(0).unwrap();
    assert_eq!(locked.0[2], text("q"));
    session.tag(&tag()).await.unwrap();
    let mut after = locked.clone();
    after.0[2] = text("r");
    assert_eq!(session.apply(TableId(0), &update(&locked, &after)).await, Ok(Applied::All));
    let fence = session.fence().await.unwrap();
    session.commit().await.unwrap();
    read_to(&mut reader, &fence).await;
    let echo = transaction(&mut reader).await;
    assert_eq!(echo.origin, pontoon_core::Origin::Own);
    assert_eq!(echo.changes.len(), 1);
    // Many rows at once, in several statements, over the reader again.
    let many: Vec<Row> = (0..2500).map(|b| row("m", b, "x", Value::Null)).collect();
    let began = std::time::Instant::now();
    assert_eq!(apply(&mut session, inserts(&many)).await, Ok(Applied::All));
    let pairs = many.iter().map(|before| {
        let mut after = before.clone();
        after.0[2] = text("new");
        (before.clone(), after)
    });
    let batch = TableBatch {
        updates: vec![UpdateGroup { changed: vec![2], rows: pairs.collect(), ..UpdateGroup::default() }],
        ..Default::default()
    };
    assert_eq!(apply(&mut session, batch).await, Ok(Applied::All));
    eprintln!("{}: 2500 inserts and 2500 updates in {:?}", server.kind(), began.elapsed());
    let mut scan = node.open_scan(&tables).await.unwrap();
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = scan.chunk(TableId(0), Span::behind(after.as_ref()), 700).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = Some(tables[0].key_of(last));
        count += rows.len();
    }
    assert_eq!(count, 2502);
}

async fn tables_are_set_aside_under_the_token(server: &Server) {
    let (node, tables) = table(server, "aside").await;
    set_up(&node, &tables).await;
    let (mut lease, _) = lease(&node, "first").await;
    let at = |place: &str| -> Position { place.parse().unwrap() };
    let checkpoint = node.state(&tables).await.unwrap().checkpoint.unwrap();
    let noted = Arrangement {
        checkpoint: Checkpoint { position: at("0/64"), ..checkpoint },
        since: vec![(tables[0].label.clone(), at("0/C8"))],
        aside: vec![("other".into(), at("0/32")), ("third".into(), at("0/33"))],
    };
    lease.arrange(&noted).await.unwrap();
    let state = node.state(&tables).await.unwrap();
    assert_eq!(state.checkpoint, Some(noted.checkpoint.clone()));
    assert_eq!((state.since, state.aside), (vec![(tables[0].id, at("0/C8"))], noted.aside.clone()));
    let taken_back = Arrangement { aside: vec![("third".into(), at("0/33"))], since: Vec::new(), ..noted };
    lease.arrange(&taken_back).await.unwrap();
    assert_eq!(node.state(&tables).await.unwrap().aside, taken_back.aside);
    // Somebody has raised the token since.
    node.pause(None).await.unwrap();
    let checkpoint = Checkpoint { position: at("0/1"), ..taken_back.checkpoint.clone() };
    let late = Arrangement { checkpoint, aside: Vec::new(), since: Vec::new() };
    assert_eq!(lease.arrange(&late).await.unwrap_err().code(), Code::LeaseLost);
    let state = node.state(&tables).await.unwrap();
    assert_eq!((state.checkpoint, state.aside), (Some(taken_back.checkpoint), taken_back.aside));
}

/// That the logs have these names now; the checkpoint is of the other one's.
fn named(own: &LogIdentity, other: &LogIdentity, checkpoint: &Checkpoint) -> NotedLogs {
    let checkpoint = Checkpoint { log: other.clone(), ..checkpoint.clone() };
    let arrangement = Some(Arrangement { checkpoint, since: Vec::new(), aside: Vec::new() });
    NotedLogs { arrangement, ..NotedLogs::new(own.clone(), other.clone()) }
}

async fn logs_get_their_new_names_under_the_token(server: &Server) {
    let (node, tables) = table(server, "promoted").await;
    set_up(&node, &tables).await;
    let (mut lease, _) = lease(&node, "first").await;
    let checkpoint = node.state(&tables).await.unwrap().checkpoint.unwrap();
    let (own, other) = (LogIdentity("mysql:7".into()), LogIdentity("postgres:1:2".into()));
    lease.note_logs(&named(&own, &other, &checkpoint)).await.unwrap();
    let noted = Checkpoint { log: other.clone(), ..checkpoint.clone() };
    assert_eq!(node.state(&tables).await.unwrap().checkpoint, Some(noted.clone()));
    // What set-up is then for.
    let promoted = SetupPlan { other_log: other, ..plan(&tables) };
    assert_eq!(node.install_checkpoint(&promoted, &noted).await.unwrap_err().code(), Code::BridgeNameTaken);
    lease.note_logs(&named(&node.identity().await.unwrap(), &noted.log, &checkpoint)).await.unwrap();
    node.install_checkpoint(&promoted, &noted).await.unwrap();
    node.pause(None).await.unwrap();
    assert_eq!(lease.note_logs(&named(&own, &own, &checkpoint)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(node.state(&tables).await.unwrap().checkpoint, Some(noted));
}

async fn looks_go_over_one_connection_that_may_end(server: &Server) {
    let (node, tables) = table(server, "looks").await;
    set_up(&node, &tables).await;
    let mut root = root(server).await;
    let mut made = async || {
        let (_, count): (String, u64) =
            root.query_first("SHOW GLOBAL STATUS LIKE 'Connections'").await.unwrap().unwrap();
        count
    };
    node.paused().await.unwrap();
    let before = made().await;
    node.log_status(None).await.unwrap();
    node.throttled().await.unwrap();
    assert_eq!(made().await, before);
    // The server ends all that are idle but the one that says so.
    let others = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND id <> CONNECTION_ID()";
    let idle: Vec<u64> = root.query(others).await.unwrap();
    for id in idle {
        run(&mut root, &[&format!("KILL {id}")]).await;
    }
    assert_eq!(node.paused().await.unwrap(), None);
}

async fn an_old_session_is_fenced(server: &Server) {
    let (node, tables) = table(server, "fenced").await;
    set_up(&node, &tables).await;
    let (mut first, old) = lease(&node, "first, pid 1").await;
    first.renew().await.unwrap();
    let LeaseAttempt::HeldBy(holder) = node.try_lease().await.unwrap() else { panic!("two at once") };
    assert_eq!(holder, "first, pid 1");
    let error = node.teardown(&plan(&tables)).await.unwrap_err();
    assert_eq!(error.code(), Code::Config);
    let mut session = node.open_session(Applier::Direction, old, &tables).await.unwrap();
    session.begin(Some(&tag())).await.unwrap();
    let batch = TableBatch { inserts: vec![row("a", 1, "", Value::Null)], ..Default::default() };
    assert_eq!(session.apply(TableId(0), &batch).await, Ok(Applied::All));
    // The holder's connection ends, its session lives on; the next one waits for its transaction.
    drop(first);
    let mut second = None;
    for _ in 0..100 {
        match node.try_lease().await.unwrap() {
            LeaseAttempt::Ours(lease) => {
                second = Some(lease);
                break;
            }
            LeaseAttempt::HeldBy(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let mut second = second.unwrap();
    let taking = tokio::spawn(async move {
        let token = second.take_over("second").await.unwrap();
        (second, token)
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!taking.is_finished());
    session.commit().await.unwrap();
    let (_second, new) = taking.await.unwrap();
    assert!(new > old);
    for tag in [None, Some(&tag())] {
        session.begin(tag).await.unwrap();
        let error = session.fence().await.unwrap_err();
        session.rollback().await.unwrap();
        assert_eq!(error.code(), Code::LeaseLost, "{error}");
    }
    let mut session = node.open_session(Applier::Direction, new, &tables).await.unwrap();
    session.begin(Some(&tag())).await.unwrap();
    assert_eq!(
        session.read(TableId(0), &[Key(vec![text("a"), int(1)])]).await.unwrap(),
        [Some(row("a", 1, "", Value::Null))]
    );
    session.commit().await.unwrap();
}

async fn a_promotion_moves_every_place_that_is_kept(server: &Server) {
    let (node, tables) = table(server, "moved").await;
    set_up(&node, &tables).await;
    let (mut lease, token) = lease(&node, "x").await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
    let at = |place: &str| -> Position { place.parse().unwrap() };
    let key = |n| tables[0].key_of(&row("a", n, "", Value::Null));
    let record = |id: i64| Resolution {
        id,
        group: 1,
        table: TableId(0),
        key: key(id.into()),
        other_fence: Some(Position::Lsn(id as u64)),
        own_fence: Some(at("bin.000001:99")),
        own_row: None,
        other_row: None,
        verdict: None,
        ancestor: None,
        columns: None,
        commit_time: 123,
        rule: "equal".into(),
    };
    let entry = |id: i64, position| Stored {
        id,
        table: TableId(0),
        key: key(9),
        what: What::Own,
        position,
        transaction: None,
        commit_time: 5,
        refusal: None,
        due_in: Duration::from_secs(60),
    };
    session.begin(Some(&tag())).await.unwrap();
    session.record(&[record(1), record(2)]).await.unwrap();
    session.store(&[entry(3, Some(Position::Lsn(3))), entry(4, None)]).await.unwrap();
    session.commit().await.unwrap();
    node.skip(&at("bin.000001:4")).await.unwrap();

    let checkpoint = node.state(&tables).await.unwrap().checkpoint.unwrap();
    let noted = NotedLogs {
        arrangement: Some(Arrangement {
            checkpoint: Checkpoint { position: Position::Lsn(50), ..checkpoint.clone() },
            since: vec![(tables[0].label.clone(), Position::Lsn(60))],
            aside: vec![("third".into(), Position::Lsn(51))],
        }),
        own_fences: vec![(1, at("bin.000007:99"))],
        other_fences: vec![(2, Position::Lsn(70))],
        stored_before: Some(Position::Lsn(50)),
        forget_skips: true,
        ..named(&node.identity().await.unwrap(), &checkpoint.log, &checkpoint)
    };
    lease.note_logs(&noted).await.unwrap();
    let state = node.state(&tables).await.unwrap();
    let first = Resolution { own_fence: Some(at("bin.000007:99")), ..record(1) };
    assert_eq!(state.resolutions, [first, Resolution { other_fence: Some(Position::Lsn(70)), ..record(2) }]);
    assert_eq!(state.checkpoint.unwrap().position, Position::Lsn(50));
    assert_eq!(state.since, [(tables[0].id, Position::Lsn(60))]);
    assert_eq!((state.aside, state.skips), (vec![("third".into(), Position::Lsn(51))], vec![]));
    // A session that has the table set aside is told of its places.
    let unmapped = node.state(&Tables::default()).await.unwrap().unmapped;
    assert_eq!(unmapped.since, [(tables[0].label.clone(), Position::Lsn(60))]);
    let fences =
        unmapped.resolutions.iter().map(|record| (record.id, record.own_fence.clone(), record.other_fence.clone()));
    let other_fence = |id: i64| Some(Position::Lsn(id as u64));
    assert_eq!(
        fences.collect::<Vec<_>>(),
        [(1, Some(at("bin.000007:99")), other_fence(1)), (2, Some(at("bin.000001:99")), other_fence(70))]
    );
    let of = unmapped.resolutions.first().map(|record| (&*record.label, &*record.key));
    assert_eq!(of, Some((&*tables[0].label, r#"["a",1]"#)));
    let shown = node.quarantine(9).await.unwrap();
    let places: Vec<_> = shown.iter().map(|entry| entry.position.clone()).collect();
    assert_eq!(places, [Some(Position::Lsn(50).to_string()), None]);

    // Whoever connects to a server that is not noted writes nothing there.
    lease.note_logs(&named(&LogIdentity("mysql:7".into()), &checkpoint.log, &checkpoint)).await.unwrap();
    let other = node.open_session(Applier::Direction, token, &tables).await.err().unwrap();
    assert_eq!(other.code(), Code::ConnectionLost, "{other}");
}

async fn state_is_kept_and_taken_down(server: &Server) {
    let (node, tables) = table(server, "kept").await;
    set_up(&node, &tables).await;
    let state = node.state(&tables).await.unwrap();
    let log = plan(&tables).other_log;
    assert_eq!(state.checkpoint, Some(Checkpoint { position: Position::Lsn(1), log: log.clone() }));
    // Again changes nothing; for other databases it is refused.
    node.setup(&plan(&tables)).await.unwrap();
    node.install_checkpoint(&plan(&tables), &Checkpoint { position: Position::Lsn(9), log }).await.unwrap();
    assert_eq!(node.state(&tables).await.unwrap().checkpoint, state.checkpoint);
    let mut foreign = plan(&tables);
    foreign.other_log = LogIdentity("postgres:2/1".into());
    let at = Checkpoint { position: Position::Lsn(9), log: foreign.other_log.clone() };
    assert_eq!(node.install_checkpoint(&foreign, &at).await.unwrap_err().code(), Code::BridgeNameTaken);

    let skip: Position = "bin.000001:4".parse().unwrap();
    node.skip(&skip).await.unwrap();
    node.skip(&skip).await.unwrap();
    assert_eq!(node.skip(&Position::Lsn(1)).await.unwrap_err().code(), Code::Config);
    let (_lease, token) = lease(&node, "x").await;
    let mut session = node.open_session(Applier::Rendezvous, token, &tables).await.unwrap();
    assert_eq!(highest_id(&mut session).await, 0);
    let key = row("ä'\\", 1, "", Value::Null);
    let resolution = |id| Resolution {
        id,
        group: 1,
        table: TableId(0),
        key: tables[0].key_of(&key),
        other_fence: Some(Position::Lsn(5)),
        own_fence: Some("bin.000001:99".parse().unwrap()),
        own_row: Some(key.clone()),
        other_row: None,
        verdict: Some(row("ä'\\", 1, "verdict", int(7))),
        ancestor: Some(row("ä'\\", 1, "before", int(6))),
        columns: Some(r#"{"shop":["note"]}"#.into()),
        commit_time: 123,
        rule: "last_writer_wins".into(),
    };
    let other = row("b", 1, "", Value::Null);
    let other = Resolution { key: tables[0].key_of(&other), own_row: None, columns: None, ..resolution(3) };
    for records in [&[resolution(1)][..], &[resolution(2), other.clone()]] {
        session.begin(Some(&tag())).await.unwrap();
        session.record(records).await.unwrap();
        session.commit().await.unwrap();
    }
    assert_eq!(highest_id(&mut session).await, 3);
    let state = node.state(&tables).await.unwrap();
    assert_eq!(state.resolutions, [resolution(2), other]);
    assert_eq!(state.skips, [skip]);
    session.begin(Some(&tag())).await.unwrap();
    session.retire(&[2, 3]).await.unwrap();
    for id in [1, 2] {
        assert_eq!(session.recorded(id).await.unwrap(), Some(resolution(id)), "in force or not");
    }
    assert_eq!(session.recorded(4).await.unwrap(), None);
    session.commit().await.unwrap();
    assert_eq!(node.state(&tables).await.unwrap().resolutions, []);
    drop((session, _lease));

    let mut conn = root(server).await;
    run(&mut conn, &["UPDATE pontoon.control SET number = number + 1 WHERE bridge = '' AND name = 'format'"]).await;
    assert_eq!(node.state(&tables).await.unwrap_err().code(), Code::FormatUnknown);
    run(&mut conn, &["UPDATE pontoon.control SET number = number - 1 WHERE bridge = '' AND name = 'format'"]).await;
    let mut left = Err(pontoon_core::Error::new(Code::Internal, "never tried"));
    for _ in 0..100 {
        left = node.teardown(&plan(&tables)).await;
        if left.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(left.unwrap(), Vec::<String>::new());
    // Other bridges are there still.
    let rows: Option<u32> = conn
        .query_first("SELECT (SELECT COUNT(*) FROM pontoon.control WHERE bridge = 'kept') + (SELECT COUNT(*) FROM pontoon.resolution WHERE bridge = 'kept')")
        .await
        .unwrap();
    assert_eq!(rows, Some(0));
    assert!(node.state(&tables).await.unwrap().checkpoint.is_none());
}

async fn what_is_asked_of_a_rows_key_is_answered_once(server: &Server) {
    let (node, tables) = table(server, "new_keys").await;
    set_up(&node, &tables).await;
    let (_lease, token) = lease(&node, "x").await;
    let keys = [7, 8].map(|n| tables[0].key_of(&row("ä'\\", n, "", Value::Null)));
    let request = |of: Of, key: &Key, answer: Option<Answer>| {
        NewKey { of, table: TableId(0), key: key.clone() }.request(&tables[0], answer)
    };
    let asks = async |of: Of, key: &Key| node.ask_new_key(&request(of, key, None)).await.unwrap();
    let waits = |of: Of, key: &Key| NewKey { of, table: TableId(0), key: key.clone() };
    let (entry, record) = (Of::Entry(1), Of::Record(2));
    assert_eq!(node.new_key(record).await.unwrap(), None);
    asks(entry, &keys[0]).await;
    asks(record, &keys[0]).await;
    // The last one counts, until it is answered.
    asks(record, &keys[1]).await;
    let all = [waits(entry, &keys[0]), waits(record, &keys[1])];
    assert_eq!(node.requests(&tables).await.unwrap().new_keys, all);
    let mut session = node.open_session(Applier::Rendezvous, token, &tables).await.unwrap();
    let why = Answer::Refused("a has \"ä\" \\ 'one'".into());
    session.begin(Some(&tag())).await.unwrap();
    assert!(!session.answer_new_key(&waits(record, &keys[0]), &why).await.unwrap(), "it is not what is asked for now");
    assert!(session.answer_new_key(&all[1], &why).await.unwrap());
    assert!(session.answer_new_key(&all[0], &Answer::Given).await.unwrap());
    session.commit().await.unwrap();
    assert_eq!(node.requests(&tables).await.unwrap().new_keys, []);
    assert_eq!(node.new_key(entry).await.unwrap(), None, "its entry tells");
    assert_eq!(node.new_key(record).await.unwrap(), Some(request(record, &keys[1], Some(why))));
    // What was refused can be asked for again, what was given cannot.
    asks(record, &keys[0]).await;
    assert_eq!(node.new_key(record).await.unwrap(), Some(request(record, &keys[0], None)));
    session.begin(Some(&tag())).await.unwrap();
    assert!(session.answer_new_key(&waits(record, &keys[0]), &Answer::Given).await.unwrap());
    assert!(!session.answer_new_key(&waits(record, &keys[0]), &Answer::Given).await.unwrap(), "it is answered");
    session.commit().await.unwrap();
    asks(record, &keys[1]).await;
    assert_eq!(node.new_key(record).await.unwrap(), Some(request(record, &keys[0], Some(Answer::Given))));
    assert_eq!(node.requests(&tables).await.unwrap().new_keys, []);
}

async fn the_quarantine_reads_back(server: &Server) {
    let (node, tables) = table(server, "stuck").await;
    set_up(&node, &tables).await;
    let (_lease, token) = lease(&node, "x").await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();

    // A row that is refused is taken back alone.
    session.begin(Some(&tag())).await.unwrap();
    let inserts = |rows: &[Row]| TableBatch { inserts: rows.to_vec(), ..TableBatch::default() };
    session.savepoint().await.unwrap();
    assert_eq!(session.apply(TableId(0), &inserts(&[row("a", 1, "", int(7))])).await.unwrap(), Applied::All);
    session.savepoint().await.unwrap();
    let refused = session.apply(TableId(0), &inserts(&[row("b", 1, "", Value::Null), row("c", 1, "", int(7))])).await;
    let refused = refused.unwrap_err();
    assert!(refused.is_of_a_row() && refused.constraint().unwrap().ends_with('u'), "{refused:?}");
    session.rollback_to_savepoint().await.unwrap();

    let keys = [row("c", 1, "ä'\\", Value::Unmapped("9e999".into())), row("d", 1, "", Value::Null)];
    let [key, other] = [0, 1].map(|at: usize| tables[0].key_of(&keys[at]));
    let entry = |id, what, refusal: Option<&pontoon_core::Error>| Stored {
        id,
        table: TableId(0),
        key: key.clone(),
        what,
        position: Some(Position::Lsn(id as u64)),
        transaction: Some("761".into()),
        commit_time: 5,
        refusal: refusal.cloned(),
        due_in: Duration::from_secs(60),
    };
    let change = |moved| What::Change { before: Some(keys[0].clone()), after: None, moved };
    let settlement = What::Settlement { before: None, after: Some(keys[1].clone()) };
    let entries = [
        entry(3, change(None), Some(&refused)),
        entry(4, change(Some(other.clone())), None),
        entry(5, What::Own, None),
        Stored { position: None, ..entry(6, settlement, Some(&refused)) },
    ];
    session.store(&entries).await.unwrap();
    let write = |id: i64, own: bool, looked| StoredWrite {
        id,
        position: Position::Lsn(id as u64),
        commit_time: 5,
        own,
        before: (!own).then(|| keys[0].clone()),
        after: None,
        looked,
    };
    let stored = [write(3, false, false), write(4, false, false), write(5, true, false)];
    assert_eq!(session.stored(TableId(0), &key, 0).await.unwrap(), stored);
    assert_eq!(session.highest_id().await.unwrap(), 6);
    session.commit().await.unwrap();
    let there = read(&mut session, &[Key(vec![text("a"), int(1)]), Key(vec![text("b"), int(1)])]).await;
    assert_eq!(there, [Some(row("a", 1, "", int(7))), None]);

    let state = node.state(&tables).await.unwrap();
    let [held] = &state.quarantine[..] else { panic!("{state:?}") };
    assert_eq!((&held.key, held.head, held.has_changes, held.attempts), (&key, Some(3), true, 1));
    assert_eq!((&held.ties, state.highest_id), (&vec![other], 6));
    assert!(held.due_in > Duration::from_secs(50) && held.age < Duration::from_secs(50), "{held:?}");
    let shown = node.quarantine(9).await.unwrap();
    assert_eq!(shown.len(), 4);
    let before = r#"{"":{"unmapped":["u"]},"a":"c","b":1,"moved":null,"n":0,"u":"9e999","v":"ä'\\"}"#;
    assert_eq!((shown[0].before.as_deref(), shown[0].attempts), (Some(before), 1));
    assert_eq!((shown[0].code.as_deref(), shown[1].code.as_deref()), (Some("row-refused"), None));
    assert!((shown[0].next_attempt.unwrap() - shown[0].since - 60_000_000).abs() < 1_000_000, "{shown:?}");
    let counts = node.quarantine_counts().await.unwrap();
    assert_eq!((counts.keys, counts.entries, counts.oldest), (1, 4, Some(shown[0].since)));

    node.ask(&[4], Ask::Discard).await.unwrap();
    assert_eq!(node.asked(&tables).await.unwrap(), [], "it only waits behind another");
    node.ask(&[3], Ask::Discard).await.unwrap();
    assert_eq!(node.asked(&tables).await.unwrap(), [Asked { table: TableId(0), key: key.clone(), ask: Ask::Discard }]);
    session.begin(Some(&tag())).await.unwrap();
    assert_eq!(session.stored(TableId(0), &key, 0).await.unwrap()[..2], [write(3, false, true), write(4, false, true)]);
    let tried =
        Tried { head: Some(3), attempts: 2, refusal: refused.clone(), due_in: Duration::from_secs(600), decided: true };
    session.tried(TableId(0), &key, &Tried { decided: false, ..tried.clone() }).await.unwrap();
    session.commit().await.unwrap();
    let asked = async || node.asked(&tables).await.unwrap().into_iter().map(|asked| asked.ask).collect::<Vec<_>>();
    assert_eq!(asked().await, [Ask::Discard], "it was not tried for that");
    for ask in [Ask::TakeOwn, Ask::TakeOther, Ask::TakeOwnApart, Ask::TakeOtherApart] {
        node.ask(&[3, 4], ask).await.unwrap();
        assert_eq!(asked().await, [ask]);
    }
    session.begin(Some(&tag())).await.unwrap();
    assert_eq!(session.stored(TableId(0), &key, 0).await.unwrap()[..2], [write(3, false, true), write(4, false, true)]);
    session.tried(TableId(0), &key, &tried).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(asked().await, []);
    assert_eq!(node.state(&tables).await.unwrap().quarantine[0].attempts, 2);
    session.begin(Some(&tag())).await.unwrap();
    session.release(TableId(0), &[key]).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(node.state(&tables).await.unwrap().quarantine, []);
}

/// With the rights that set-up prints and no other, everything works.
async fn a_plain_user_can_do_it_all(server: &Server) {
    let (admin, tables) = table(server, "plain").await;
    let mut conn = root(server).await;
    run(&mut conn, &["DROP DATABASE pontoon", "CREATE USER bridge IDENTIFIED BY 'se cret'"]).await;
    let plain = node_as(server, "plain", "bridge", "se cret", "");
    assert_eq!(plain.setup(&plan(&tables)).await.unwrap_err().code(), Code::PrivilegeMissing);
    let sql = plain.setup_sql(&plan(&tables)).await.unwrap();
    let grants: Vec<&String> = sql.iter().filter(|statement| statement.starts_with("GRANT")).collect();
    for statement in &grants {
        run(&mut conn, &[statement]).await;
    }
    let tables = map(&plain, &[tables[0].name.clone()]).await;
    let mut reader = set_up(&plain, &tables).await;
    let findings = plain.findings(&plan(&tables)).await.unwrap();
    let blocking: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Blocking).collect();
    assert!(blocking.is_empty(), "{blocking:?}");
    assert!(!findings.iter().any(|finding| finding.code == "privilege-trigger"));
    assert_eq!(plain.list_tables().await.unwrap(), [tables[0].name.clone()]);
    let (held, token) = lease(&plain, "x").await;
    let mut session = plain.open_session(Applier::Direction, token, &tables).await.unwrap();
    let one = row("a", 1, "x", Value::Null);
    let mut two = one.clone();
    two.0[2] = text("y");
    assert_eq!(
        apply(&mut session, TableBatch { inserts: vec![one.clone()], ..Default::default() }).await,
        Ok(Applied::All)
    );
    session.begin(Some(&tag())).await.unwrap();
    session.lock(TableId(0), &[tables[0].key_of(&one)]).await.unwrap();
    let fence = session.fence().await.unwrap();
    let updates = vec![UpdateGroup { changed: vec![2], rows: vec![(one, two.clone())], ..UpdateGroup::default() }];
    assert_eq!(session.apply(TableId(0), &TableBatch { updates, ..Default::default() }).await, Ok(Applied::All));
    session.commit().await.unwrap();
    assert_eq!(apply(&mut session, TableBatch { deletes: vec![two], ..Default::default() }).await, Ok(Applied::All));
    plain.mark(Mark::Barrier).await.unwrap();
    assert_eq!(read_to(&mut reader, &fence).await.len(), 1);
    let mut tail = plain.open_tail(Some(&fence), &tables, &PassedOver::default()).await.unwrap();
    assert_eq!(transaction(&mut tail).await, transaction(&mut reader).await);
    plain.log_status(Some(&fence)).await.unwrap();
    plain.skip(&fence).await.unwrap();
    drop((session, held));
    for _ in 0..100 {
        match plain.teardown(&plan(&tables)).await {
            Ok(left) => {
                assert!(left.is_empty());
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let there: Option<u32> = conn
        .query_first("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'pontoon'")
        .await
        .unwrap();
    assert_eq!(there, Some(0));
    assert_eq!(plain.state(&tables).await.unwrap_err().code(), Code::NotSetUp);
    assert_eq!(plain.mark(Mark::Barrier).await.unwrap_err().code(), Code::NotSetUp);
    // What an administrator runs from the printed text is set up too.
    for statement in &sql {
        run(&mut conn, &[statement]).await;
    }
    plain.setup(&plan(&tables)).await.unwrap();
    drop(admin);
}

async fn check_names_what_is_wrong(server: &Server) {
    let mut conn = root(server).await;
    run(
        &mut conn,
        &[
            "CREATE DATABASE wrong",
            "CREATE TABLE wrong.parent (id int PRIMARY KEY)",
            "CREATE TABLE wrong.child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES wrong.parent (id) ON DELETE CASCADE)",
            "CREATE TABLE wrong.flat (id int PRIMARY KEY) ENGINE = MyISAM",
            "CREATE TABLE wrong.keyless (id int)",
            "CREATE TRIGGER wrong.acts BEFORE UPDATE ON wrong.parent FOR EACH ROW SET NEW.id = NEW.id",
            "SET GLOBAL binlog_row_image = MINIMAL",
            "SET GLOBAL sync_binlog = 0",
        ],
    )
    .await;
    let node = node(server, "wrong", "wrong");
    let names = ["parent", "child", "flat", "keyless"].map(|name| TableName { schema: None, name: name.into() });
    let tables = map(&node, &names).await;
    let findings = node.findings(&plan(&tables)).await.unwrap();
    let severity = |code: &str| {
        findings
            .iter()
            .filter(|finding| finding.code == code)
            .map(|finding| finding.severity)
            .max_by_key(|severity| *severity == Severity::Ok)
    };
    let bad = |code: &str| findings.iter().find(|finding| finding.code == code && finding.severity != Severity::Ok);
    for code in ["binlog-row-image", "trigger", "table-engine", "primary-key"] {
        let finding = bad(code).unwrap_or_else(|| panic!("{code} is not found"));
        assert_eq!(finding.severity, Severity::Blocking, "{code}");
        assert!(finding.remedy.is_some());
    }
    assert_eq!(bad("sync-binlog").map(|finding| finding.severity), Some(Severity::Warning));
    assert_eq!(severity("log-bin"), Some(Severity::Ok));
    assert_eq!(bad("foreign-key-cascade").is_some(), server.kind() == Kind::Mariadb);
    run(&mut conn, &["SET GLOBAL binlog_row_image = FULL", "SET GLOBAL sync_binlog = 1"]).await;
    if server.kind() == Kind::Mysql {
        // Cascades are in its log: children before the parent.
        let tables: Tables = tables[..2].to_vec().into();
        let mut reader = set_up(&node, &tables).await;
        run(
            &mut conn,
            &[
                "INSERT INTO wrong.parent VALUES (1)",
                "INSERT INTO wrong.child VALUES (1, 1)",
                "DELETE FROM wrong.parent",
            ],
        )
        .await;
        transaction(&mut reader).await;
        transaction(&mut reader).await;
        assert_eq!(transaction(&mut reader).await.changes.len(), 2);
    }
}

async fn refusals_have_their_codes(server: &Server) {
    let refused = async |user: &str, password: &str, database: &str| {
        node_as(server, "x", user, password, database).connect().await.unwrap_err().code()
    };
    assert_eq!(refused("root", "wrong", "").await, Code::LoginRefused);
    assert_eq!(refused("nobody", "", "").await, Code::LoginRefused);
    assert_eq!(refused("root", server.password(), "no such database").await, Code::LoginRefused);
    let name = node(server, "x", "").connect().await.unwrap().server;
    assert!(name.starts_with(if server.kind() == Kind::Mysql { "MySQL 9." } else { "MariaDB 10." }), "{name}");
    let closed = pontoon_mysql::node(pontoon_core::node::NodeOptions {
        name: "n".into(),
        bridge: "b".into(),
        url: "mysql://root@127.0.0.1:1/".into(),
        password: None,
    });
    assert_eq!(closed.unwrap().connect().await.unwrap_err().code(), Code::Unreachable);
}
