//! The image of `docker/Dockerfile`, without an engine: `scripts/check-image` follows the file and runs what comes out between two private servers.

use std::{path::PathBuf, process::Stdio};

use pontoon_servers::{Kind, Options, bound_command};

use crate::{
    commands::with_page,
    streamed,
    support::{Link, LinkOptions},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/check-image");

/// What a container gets: the configuration and its passwords, which are where `CREDENTIALS_DIRECTORY` says.
fn given(link: &Link) -> PathBuf {
    let (folder, given) = (link.folder.path(), link.folder.path().join("given"));
    std::fs::create_dir_all(given.join("secrets")).unwrap();
    for name in ["password-a", "password-b"] {
        std::fs::copy(folder.join(name), given.join("secrets").join(name)).unwrap();
    }
    let text = std::fs::read_to_string(link.config()).unwrap();
    let text = text.replace(&folder.display().to_string(), "${CREDENTIALS_DIRECTORY}");
    std::fs::write(given.join("pontoon.toml"), text).unwrap();
    given
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full: makes roots of Debian and a release build, as root"]
async fn is_built_as_its_file_says_and_bridges_without_rights() {
    let servers = [Options::default().setting("logical_decoding_work_mem", "64kB"), Options::default()];
    let configuration = with_page().0 + "[limits]\nmemory_mib = 16\n";
    let link = Link::start([Kind::Postgres, Kind::Mariadb], LinkOptions { servers, configuration }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (-1, 'anvil', 4)").await;
    // As long as it is open, it is spilled by whoever bridges.
    let mut open = link.a.client().await;
    open.run("BEGIN").await;
    open.run(&streamed::insert(1, streamed::ROWS)).await;

    let mut command = tokio::process::Command::from(bound_command(SCRIPT).unwrap());
    let ended = command.arg(given(&link)).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ended.status.success() && said.contains("all as it should be"), "{said}");
    assert_eq!(link.b.value("SELECT name FROM items").await, "anvil");
}
