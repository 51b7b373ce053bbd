//! `pontoon init`: what it writes is a configuration that `check` accepts.

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions, pairings, pontoon_with};

pairings!(two_urls);

fn node(name: &str, database: &Database) -> String {
    format!("{name}={}", database.server.url(database.server.superuser(), "shop"))
}

async fn two_urls(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    for table in ["items", "dotted.name*"] {
        for database in link.nodes() {
            let quote = if database.is_postgres() { '"' } else { '`' };
            database.run(&format!("CREATE TABLE {quote}{table}{quote} (id int PRIMARY KEY)")).await;
            if database.is_postgres() {
                database.run(&format!("ALTER TABLE {quote}{table}{quote} REPLICA IDENTITY FULL")).await;
            }
        }
    }
    link.a.run("CREATE TABLE only_a (id int PRIMARY KEY)").await;
    let (shop, stock) = (node("shop", &link.a), node("sto-ck", &link.b));
    let passwords = [("SHOP_PASSWORD", link.a.server.password()), ("STO_CK_PASSWORD", link.b.server.password())];
    let path = link.folder.path().join("new.toml");

    let ended = pontoon_with(&path, &["init", &shop, &stock], &passwords).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("bridge shop-sto-ck") && ended.out.contains("$STO_CK_PASSWORD"), "{ended:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\nname = \"items\"\n") && text.contains("\nname = \"dotted\\\\.name\\\\*\"\n"), "{text}");
    assert!(text.contains("# name = \"only_a\"   # on shop"), "{text}");
    for (_, password) in passwords {
        assert!(!text.contains(password), "{text}");
    }
    let ended = pontoon_with(&path, &["check"], &passwords).await;
    assert_eq!(ended.code, 0, "{ended:?}");

    // One that is there is not touched, and whatever is wrong is told before anything is written.
    let ended = pontoon_with(&path, &["init", &shop, &stock], &passwords).await;
    assert!(ended.refused(2, "config-invalid").message.contains("is there already"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let other = link.folder.path().join("other.toml");
    for (arguments, said) in [
        (&["init"][..], "a bridge has two databases, and 0 is given"),
        (&["init", "shop=postgresql://u@h/d"], "a bridge has two databases, and 1 is given"),
        (&["init", "mysql://u:secret@h/d", "b=mysql://u@h/e"], "without a name"),
        (&["init", "a=mysql://u:secret@h", "b=mysql://u@h/e"], "names no database"),
        (&["init", "a b=mysql://u@h/d", "b=mysql://u@h/e", "--bridge", "x"], "is no name for a node"),
        (&["init", "a=mysql://u@h/d", "b=mysql://u@h/d"], "are the same database"),
        (&["init", "a=mysql://u@h/d", "b=mysql://u@h/e", "--bridge", "No!"], "is not 1 to 32"),
    ] {
        let ended = pontoon_with(&other, arguments, &[]).await;
        let refusal = ended.refused(2, "config-invalid");
        assert!(refusal.message.contains(said), "{refusal:?}");
        assert!(!ended.err.contains("secret") && !other.exists());
    }
    // A password in a url is used and not written; databases that do not answer are no obstacle.
    let urls = [("shop", &link.a), ("stock", &link.b)].map(|(name, database)| {
        let server = &database.server;
        format!("{name}={}", server.url_with_password(server.superuser(), server.password(), "shop"))
    });
    let ended = pontoon_with(&other, &["init", &urls[0], &urls[1], "--table", "it*"], &[]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = std::fs::read_to_string(&other).unwrap();
    assert!(
        text.contains("name = \"it*\"") && !text.contains("only_a") && !text.contains(link.a.server.password()),
        "{text}"
    );
    // What a variable stands for is used and not written, be it a whole url with its password.
    let variables = link.folder.path().join("variables.toml");
    let whole = urls[0].split_once('=').unwrap().1;
    let port = link.b.server.port().to_string();
    let (user, database) = (link.b.server.superuser(), &link.b);
    let written = format!("{}://{user}@127.0.0.1:${{PORT}}/shop", database.kind.scheme());
    let mut environment = vec![("URL_OF_SHOP", whole), ("PORT", port.as_str())];
    environment.push(("STOCK_PASSWORD", link.b.server.password()));
    let ended =
        pontoon_with(&variables, &["init", "shop=${URL_OF_SHOP}", &format!("stock={written}")], &environment).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = std::fs::read_to_string(&variables).unwrap();
    assert!(text.contains("url = \"${URL_OF_SHOP}\"\n# password_env = \"...\""), "{text}");
    assert!(text.contains(&format!("url = \"{written}\"\npassword_env = \"STOCK_PASSWORD\"")), "{text}");
    assert!(!text.contains(whole) && !text.contains(&port), "{text}");
    let ended = pontoon_with(&variables, &["check"], &environment).await;
    assert!(!ended.err.contains("config-invalid"), "{ended:?}");
    let nowhere = link.folder.path().join("nowhere.toml");
    let ended =
        pontoon_with(&nowhere, &["init", "a=mysql://u@127.0.0.1:1/d", "b=postgresql://u@127.0.0.1:1/d"], &[]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        std::fs::read_to_string(&nowhere).unwrap().contains("name = \"*\"") && ended.err.contains("cannot look"),
        "{ended:?}"
    );
}
