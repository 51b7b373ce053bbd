//! A changed configuration is taken up by a bridge that runs, all of it or nothing, by SIGHUP as by `pontoon reload`.

use pontoon_servers::Kind;

use crate::support::{Bridge, Link, LinkOptions, a_second_later, eventually, first_pairing};

first_pairing!(taken_up, nothing_by_halves, who_stands_by_takes_it_up_too);

const TABLE: &str = "[[tables]]\nname = \"items\"\n";
const PREFERRED: &str = "[[tables]]\nname = \"items\"\nconflict = \"prefer:a\"\n";

async fn ready(kinds: [Kind; 2]) -> Link {
    // With a second table, without which none could be set aside.
    let configuration = format!("{TABLE}[[tables]]\nname = \"parts\"\n");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for table in ["items", "parts", "orders"] {
        link.create(table, "id int PRIMARY KEY, name varchar(40)").await;
    }
    link.both("INSERT INTO items VALUES (1, 'begun')").await;
    link.succeed(&["setup"]).await;
    link
}

/// How many sessions a process has begun.
fn sessions(bridge: &Bridge) -> usize {
    bridge.log().matches("active: this process holds the lease").count()
}

/// By which rule a conflict is settled that is made now, with the later write on b.
async fn rule(link: &Link) -> String {
    let number = link.conflicts(&[]).await.len();
    link.succeed(&["pause"]).await;
    link.a.run(&format!("UPDATE items SET name = 'of a {number}' WHERE id = 1")).await;
    a_second_later().await;
    link.b.run(&format!("UPDATE items SET name = 'of b {number}' WHERE id = 1")).await;
    link.succeed(&["resume"]).await;
    link.settle().await;
    link.conflicts(&[]).await[0]["rule"].as_str().unwrap().to_owned()
}

async fn taken_up(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let ended = link.command(&["reload"]).await;
    assert!(ended.code == 1 && ended.err.contains("no process of the bridge works"), "{ended:?}");
    let bridge = link.run();
    bridge.works().await;
    assert_eq!(link.succeed(&["reload"]).await, "nothing has changed\n");
    assert_eq!(sessions(&bridge), 1, "and so nothing ends");
    assert!(rule(&link).await.starts_with("last_writer_wins"));

    link.edit("[limits]\n", "[limits]\nrows_per_second = 1\n");
    link.edit(TABLE, PREFERRED);
    assert_eq!(link.succeed(&["reload"]).await, "taken up: tables, limits.rows_per_second\n");
    let mut client = link.a.client().await;
    for id in 10..40 {
        client.run(&format!("INSERT INTO items VALUES ({id}, 'waits its turn')")).await;
    }
    bridge.logged("state=throttled").await;
    link.edit("rows_per_second = 1\n", "");
    bridge.signal("HUP");
    bridge.logged("the configuration is taken up changed=\"limits.rows_per_second\"").await;
    link.settle().await;
    assert!(rule(&link).await.starts_with("prefer: a"));
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 31);
    assert_eq!(bridge.stop().await, 0);
}

/// What is refused names what is in the way, ends no session, and leaves all as it was.
async fn nothing_by_halves(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let bridge = link.run();
    bridge.works().await;
    let text = std::fs::read_to_string(link.config()).unwrap();
    let refused = async |from: &str, to: &str, named: &[&str]| {
        link.edit(from, to);
        let ended = link.command(&["reload"]).await;
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(named.iter().all(|word| ended.err.contains(word)), "{named:?}: {ended:?}");
        std::fs::write(link.config(), &text).unwrap();
    };
    // One key that can be taken up, and one that cannot.
    refused(
        "[limits]\n",
        "[limits]\nrows_per_second = 1\nspill_dir = \"elsewhere\"\n#",
        &["limits.spill_dir", "config-invalid"],
    )
    .await;
    refused("listen = \"off\"", "listen = \"127.0.0.1:0\"", &["server.listen", "restart the bridge"]).await;
    refused("[nodes.a]\n", "[nodes.a]\npriority = 3\n", &["nodes.a.priority"]).await;
    // Tables that are not set up, or would be no pair.
    refused(
        TABLE,
        "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"orders\"\n",
        &["tables-changed", "pontoon setup"],
    )
    .await;
    refused(TABLE, "[[tables]]\nname = \"items\"\ncolumns = { name = \"additive\" }\n", &["items"]).await;

    link.edit(TABLE, "[[tables]\nname = \"items\"\n");
    link.command(&["reload"]).await.refused(2, "config-invalid");
    bridge.signal("HUP");
    eventually("the broken file is refused too", async || {
        bridge.log().matches("the configuration is not taken up; what was goes on").count() == 6
    })
    .await;
    std::fs::write(link.config(), &text).unwrap();
    assert_eq!(link.succeed(&["reload"]).await, "nothing has changed\n");
    assert_eq!(sessions(&bridge), 1, "no session has ended for any of this");
    link.a.run("INSERT INTO items VALUES (2, 'crosses')").await;
    link.settle().await;
    assert!(rule(&link).await.starts_with("last_writer_wins"));
    assert_eq!(bridge.stop().await, 0);
}

async fn who_stands_by_takes_it_up_too(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let first = link.run();
    first.works().await;
    let second = link.run();
    second.logged("standing by").await;
    link.edit(TABLE, PREFERRED);
    // While the one that works does not, nobody else speaks for it.
    first.signal("STOP");
    let ended = link.command(&["reload", "--timeout", "6s"]).await;
    assert!(ended.code == 1 && ended.err.contains("no answer within 6s"), "{ended:?}");
    first.signal("CONT");
    for bridge in [&first, &second] {
        bridge.logged("the configuration is taken up changed=\"tables\"").await;
    }
    assert_eq!(link.succeed(&["reload"]).await, "nothing has changed\n");
    first.kill();
    second.works().await;
    assert!(rule(&link).await.starts_with("prefer: a"));
    assert_eq!(second.stop().await, 0);
}
