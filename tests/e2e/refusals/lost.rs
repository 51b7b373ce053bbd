//! Logs that are lost, or are not the one that was read: refused before a row is applied, and set up anew.

use pontoon_core::Position;

use super::*;

first_pairing!(lost_slots, lost_logs, other_logs);

/// Makes the tables equal by hand while there is no bridge, and sets it up anew.
async fn anew(link: &Link) {
    link.succeed(&["teardown", "--execute"]).await;
    link.both("DELETE FROM items").await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4)").await;
    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (2, 'from a', 1)").await;
    link.b.run("INSERT INTO items VALUES (3, 'from b', 1)").await;
    link.catch_up().await;
    assert_eq!(link.same(ALL).await.len(), 3);
}

/// The MySQL server is begun with a new name, with its own files or with these.
async fn renamed(link: &mut Link, files: Option<&std::path::Path>) {
    let node = link.mysql_mut();
    let data = node.server.data();
    node.server.stop().await.unwrap();
    if let Some(files) = files {
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(files, &data).unwrap();
    }
    std::fs::remove_file(data.join("auto.cnf")).unwrap();
    node.server.restart().await.unwrap();
}

async fn lost_slots(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (postgres, name) = link.postgres();
    link.catch_up().await;
    let slot = postgres.value("SELECT slot_name FROM pg_replication_slots").await;
    assert!(slot.starts_with("pontoon"), "{slot}");
    let lost = async |sql: &str| {
        backlog(&link).await;
        postgres.slots_are_free().await;
        for sql in sql.split(';') {
            postgres.run(&sql.replace("SLOT", &slot)).await;
        }
        let refusal = refused_untouched(&link, 4, "log-lost").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains(&slot), "{refusal:?}");
        position_in(&refusal.message);
        assert!(refusal.hint.contains("pontoon verify") && refusal.hint.contains("pontoon setup"), "{refusal:?}");
        // Set-up, which is safe to repeat, does not cover it up.
        link.command(&["setup"]).await;
        refused_untouched(&link, 4, "log-lost").await;
        anew(&link).await;
    };
    lost("SELECT pg_drop_replication_slot('SLOT')").await;
    lost("SELECT pg_drop_replication_slot('SLOT'); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')")
        .await;
    lost("SELECT pg_replication_slot_advance('SLOT', pg_current_wal_lsn())").await;

    backlog(&link).await;
    postgres.outgrow_slot().await;
    let (exit, found) = link.check().await;
    let blocks = found.iter().any(|finding| finding["code"] == "slot" && finding["severity"] == "blocking");
    assert!(exit == 1 && blocks, "{found:#?}");
    refused_untouched(&link, 4, "log-lost").await;
    let refusal = link.command(&["setup"]).await.refused(4, "log-lost");
    assert!(refusal.hint.contains("pontoon teardown"), "{refusal:?}");
    refused_untouched(&link, 4, "log-lost").await;
    anew(&link).await;
}

async fn lost_logs(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (mysql, name) = link.mysql();
    link.catch_up().await;
    backlog(&link).await;
    mysql.purge_logs().await;
    let refusal = refused_untouched(&link, 4, "log-lost").await;
    assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
    assert!(refusal.hint.contains("binlog_expire_logs_seconds"), "{refusal:?}");
    // Set-up, which is safe to repeat, does not cover it up.
    link.command(&["setup"]).await;
    refused_untouched(&link, 4, "log-lost").await;
    anew(&link).await;

    // The log begins anew, and is shorter than what was applied.
    mysql
        .run(match mysql.kind {
            Kind::Mariadb => "RESET MASTER",
            _ => "RESET BINARY LOGS AND GTIDS",
        })
        .await;
    backlog(&link).await;
    let refusal = refused_untouched(&link, 4, "log-behind").await;
    assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
    assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
    anew(&link).await;
}

/// Copies a folder as it is.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Writes to a node until its log is beyond a position.
async fn grow_over(node: &Database, position: &str) {
    let position: Position = position.parse().unwrap();
    let place = |rows: Rows| rows[0][..2].iter().flatten().cloned().collect::<Vec<_>>().join(":");
    node.run("CREATE TABLE noise (id bigint, payload varchar(1000))").await;
    loop {
        let payload = "x".repeat(1_000);
        node.run(&format!("INSERT INTO noise VALUES (1, '{payload}'), (2, '{payload}'), (3, '{payload}')")).await;
        let end = match node.kind {
            Kind::Postgres => node.value("SELECT pg_current_wal_insert_lsn()").await,
            Kind::Mariadb => place(node.rows("SHOW MASTER STATUS").await),
            Kind::Mysql => place(node.rows("SHOW BINARY LOG STATUS").await),
        };
        if end.parse::<Position>().unwrap() > position {
            return;
        }
    }
}

async fn other_logs(kinds: [Kind; 2]) {
    let mut link = ready(kinds).await;
    link.catch_up().await;

    // Each server in turn is given back an older state of its files, under a bridge that runs.
    for side in [0, 1] {
        let bridge = link.run();
        bridge.works().await;
        let node = if side == 0 { &mut link.a } else { &mut link.b };
        let (data, kept) = (node.server.data(), node.server.folder().join("kept"));
        node.server.stop().await.unwrap();
        copy(&data, &kept);
        node.server.restart().await.unwrap();
        let node = if side == 0 { &link.a } else { &link.b };
        for id in 10..20 {
            node.run(&format!("INSERT INTO items VALUES ({id}, 'lost by the restore', 1)")).await;
        }
        link.settle().await;
        let node = if side == 0 { &mut link.a } else { &mut link.b };
        node.server.stop().await.unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&kept, &data).unwrap();
        node.server.restart().await.unwrap();
        let name = ["a", "b"][side];
        let behind = |refusal: Refusal| {
            assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
            assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
        };
        behind(bridge.end().await.refused(4, "log-behind"));
        backlog(&link).await;
        behind(refused_untouched(&link, 4, "log-behind").await);
        // Nor is it taken for whole when its log has grown over the place.
        let (node, other) = if side == 0 { (&link.a, &link.b) } else { (&link.b, &link.a) };
        grow_over(node, &other.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await).await;
        behind(refused_untouched(&link, 4, "log-behind").await);
        anew(&link).await;
    }

    // The same server with another log: a promoted one that goes on where that tells that its log does, and a restored one that was given a number of its own.
    let side = usize::from(!link.a.is_postgres());
    let node = if side == 0 { &mut link.a } else { &mut link.b };
    node.server.stop().await.unwrap();
    std::fs::write(node.server.data().join("standby.signal"), "").unwrap();
    node.server.restart().await.unwrap();
    let postgres = link.postgres().0;
    postgres.run("SELECT pg_promote()").await;
    eventually("it is promoted", async || postgres.value("SELECT pg_is_in_recovery()::int").await == "0").await;
    let history = postgres.server.data().join("pg_wal/00000002.history");
    let away = history.with_extension("away");
    std::fs::rename(&history, &away).unwrap();
    backlog(&link).await;
    let refusal = refused_untouched(&link, 4, "log-identity-changed").await;
    assert!(refusal.message.starts_with(&format!("{}: ", link.postgres().1)), "{refusal:?}");
    assert!(refusal.message.matches("postgres:").count() == 2, "which it knew and which it found: {refusal:?}");
    for arguments in [
        &["wait", "--timeout", "60s"][..],
        &["skip", link.postgres().1, "0/1"],
        &["switchover", "--to", other(link.postgres().1)],
    ] {
        link.command(arguments).await.refused(4, "log-identity-changed");
    }
    link.succeed(&["status"]).await;
    std::fs::rename(&away, &history).unwrap();
    link.catch_up().await;
    link.same(ALL).await;
    anew(&link).await;

    // MySQL keeps its name in a file of its own. Without that the same files are of another server: they go on by the names of transactions, where these have any.
    if link.mysql().0.kind == Kind::Mysql {
        for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE"] {
            link.mysql().0.run(&format!("SET GLOBAL gtid_mode = {mode}")).await;
        }
        link.mysql().0.run("UPDATE items SET quantity = 7 WHERE id = 1").await;
        link.catch_up().await;
        renamed(&mut link, None).await;
        backlog(&link).await;
        let refusal = refused_untouched(&link, 4, "log-identity-changed").await;
        assert!(refusal.message.matches("mysql:").count() == 2, "which it knew and which it found: {refusal:?}");
        assert!(refusal.hint.contains("A replica in the place of its source"), "{refusal:?}");
        anew(&link).await;

        let kept = link.mysql().0.server.folder().join("kept");
        let node = link.mysql_mut();
        node.server.stop().await.unwrap();
        copy(&node.server.data(), &kept);
        node.server.restart().await.unwrap();
        renamed(&mut link, None).await;
        backlog(&link).await;
        link.catch_up().await;
        link.same(ALL).await;
        // Older files are not the same, whatever they are called.
        renamed(&mut link, Some(&kept)).await;
        backlog_of(&link, 9).await;
        refused_untouched(&link, 4, "log-behind").await;
        anew(&link).await;
    }

    // Another server where this one was, with the same rows.
    for side in [0, 1] {
        let (node, name) = if side == 0 { (&link.a, "a") } else { (&link.b, "b") };
        let stranger = Database::start(node.kind, Options::default()).await;
        stranger.run(&format!("CREATE TABLE items ({COLUMNS})")).await;
        let (here, there) = (node.server.port().to_string(), stranger.server.port().to_string());
        link.edit(&here, &there);
        refused_untouched(&link, 4, "not-set-up").await;
        // Nor does set-up take it for the one that it knows.
        let refusal = link.command(&["setup"]).await.refused(4, "bridge-name-taken");
        assert!(refusal.message.starts_with(&format!("{}: ", other(name))), "{refusal:?}");
        link.edit(&there, &here);
    }
    backlog(&link).await;
    link.catch_up().await;
    link.same(ALL).await;
}
