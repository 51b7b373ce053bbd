//! The page in a browser, by clicks and by keys, on a bridge under load with conflicts; and what it refuses, whoever asks.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::{
    Bridge, Link, LinkOptions, a_second_later,
    browser::{Browser, REBOUND},
    eventually, first_pairing,
    link::write_configuration,
    schema::faults,
};

first_pairing!(
    by_clicks_and_keys,
    refuses_who_may_not,
    acts_on_what_is_taken_up,
    with_tls_where_others_reach_it,
    the_status_is_as_published
);

const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// A row that would run a script, were it put into the page as it is.
const HOSTILE: &str = "<img src=x onerror=\"document.title = String(1)\">";

/// A bridge between `shop` and `stock`, whose `items` are refused by stock with a quantity below zero and whose `prices` wait for a person; its page, with a token.
struct Shown {
    link: Link,
    address: String,
}

impl Shown {
    async fn ready(kinds: [Kind; 2]) -> Shown {
        let link = Link::start(kinds, LinkOptions::default()).await;
        link.create("items", "id bigint PRIMARY KEY, name varchar(80), quantity int NOT NULL").await;
        link.create("prices", "id bigint PRIMARY KEY, cents int NOT NULL").await;
        link.both("INSERT INTO items VALUES (1, 'anvil', 4), (2, 'bolt', 9), (3, 'clamp', 7), (4, 'drill', 5)").await;
        link.both("INSERT INTO prices VALUES (1, 100)").await;
        link.b.run("ALTER TABLE items ADD CONSTRAINT enough CHECK (quantity >= 0)").await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let shown = Shown { link, address };
        std::fs::write(shown.folder().join("token"), format!("{TOKEN}\n")).unwrap();
        shown.configure(&format!("listen = \"{}\"\ntoken_file = \"token\"\n", shown.address));
        shown.link.succeed(&["setup"]).await;
        shown
    }

    fn folder(&self) -> &Path {
        self.link.folder.path()
    }

    fn configure(&self, server: &str) {
        let Link { a, b, .. } = &self.link;
        let users = [a, b].map(|node| (node.server.superuser(), node.server.password()));
        let rest = format!(
            "[server]\n{server}[[tables]]\nname = \"items\"\n[[tables]]\nname = \"prices\"\nconflict = \"quarantine\"\n"
        );
        write_configuration(self.folder(), "shop-stock", [("shop", a), ("stock", b)], users, &rest);
    }

    async fn status(&self) -> Json {
        serde_json::from_str(&self.link.succeed(&["status", "--json"]).await).unwrap()
    }

    /// Which directions are paused. (What else they do the load decides, and the machine.)
    async fn paused(&self) -> [bool; 2] {
        let status = self.status().await;
        [0, 1].map(|at| status["directions"][at]["state"] == "paused")
    }

    async fn entries(&self) -> Vec<Json> {
        let list: Json = serde_json::from_str(&self.link.succeed(&["quarantine", "list", "--json"]).await).unwrap();
        list["entries"].as_array().unwrap().clone()
    }

    /// Applications on both sides that insert rows, some dozens a second, and now and then write the same one.
    fn load(&self, stop: &Arc<AtomicBool>) -> [JoinHandle<u32>; 2] {
        [(&self.link.a, 10_000), (&self.link.b, 1_000_000)].map(|(node, first)| {
            node.application(stop, Duration::from_millis(25), move |time| {
                let insert = format!("INSERT INTO items VALUES ({}, 'part {time}', {})", first + time, time % 50);
                let both = format!("UPDATE items SET quantity = {} WHERE id = 4", time + first % 7);
                if time % 40 == 0 { vec![insert, both] } else { vec![insert] }
            })
        })
    }
}

async fn by_clicks_and_keys(kinds: [Kind; 2]) {
    let shown = Shown::ready(kinds).await;
    let bridge = shown.link.run();
    bridge.works().await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = shown.load(&stop);
    let mut browser = Browser::start(shown.folder()).await;
    browser.look(1280, 900, "light").await;
    browser.open(&format!("http://{}/", shown.address)).await;
    // Both ways, without anybody asking anew.
    browser.until("document.querySelectorAll('.way.flows').length === 2").await;
    assert!(browser.text("h1").await.starts_with("shop-stock"));

    paused_and_resumed(&shown, &mut browser).await;
    conflicts_are_shown(&shown, &mut browser).await;
    held_for_a_person(&shown, &mut browser).await;
    discarded_and_tried_again(&shown, &mut browser).await;
    by_the_keyboard(&shown, &mut browser).await;
    at_every_width(&shown, &mut browser).await;
    of_nothing_else(&shown, &mut browser).await;

    stop.store(true, Ordering::Relaxed);
    for application in load {
        application.await.unwrap();
    }
    assert_eq!(bridge.stop().await, 0);
}

/// By a click, with the token, which is asked for once; with another one nothing is done.
async fn paused_and_resumed(shown: &Shown, browser: &mut Browser) {
    browser.click("#switch-0").await;
    browser.until("document.querySelector('#ask').open").await;
    browser.write("another-token-0123456789").await;
    browser.click("#ask .go").await;
    browser
        .until("document.querySelector('#said').innerText.includes('the token is missing, or is another one')")
        .await;
    assert_eq!(shown.paused().await, [false, false]);

    browser.click("#switch-0").await;
    browser.until("document.querySelector('#ask').open").await;
    browser.write(TOKEN).await;
    browser.press("Enter").await;
    browser
        .until(
            "document.querySelector('#said').innerText === 'shop -> stock: nothing is applied, until pontoon resume'",
        )
        .await;
    browser.until("document.querySelector('#switch-0').innerText === 'Resume'").await;
    eventually("it is paused", async || shown.paused().await == [true, false]).await;
}

/// While one direction is paused both sides write a row; what came of it is shown as soon as it goes on, with both rows on request.
async fn conflicts_are_shown(shown: &Shown, browser: &mut Browser) {
    shown.link.a.run("UPDATE items SET name = 'of the shop', quantity = 1 WHERE id = 1").await;
    a_second_later().await;
    shown
        .link
        .b
        .run(&format!("UPDATE items SET name = '{}', quantity = 2 WHERE id = 1", HOSTILE.replace('\'', "''")))
        .await;
    browser.click("#switch-0").await;
    browser.until("document.querySelector('#said').innerText === 'shop -> stock: goes on'").await;
    let item = "[...document.querySelectorAll('#conflicts li')].find((li) => li.innerText.includes('items') && li.innerText.includes('[1]'))";
    browser.until(&format!("{item}?.querySelector('.winner').innerText === 'stock'")).await;
    browser.until(&format!("{item}.innerText.includes('last_writer_wins: stock')")).await;
    let button = browser.eval(&format!("{item}.querySelector('button').id")).await;
    browser.click(&format!("#{}", button.as_str().unwrap())).await;
    browser.until("document.querySelector('#rows').open").await;
    let rows = browser.text("#rows table").await;
    assert!(rows.contains("shop held") && rows.contains("of the shop") && rows.contains(HOSTILE), "{rows}");
    assert_eq!(browser.eval("document.querySelectorAll('#rows img').length").await, 0);
    assert_eq!(browser.eval("document.title").await, "shop-stock: pontoon");
    browser.press("Escape").await;
    browser.until("!document.querySelector('#rows').open").await;
}

/// Both sides write one price, about which a person is to decide.
async fn priced_twice(shown: &Shown, browser: &mut Browser, cents: [u32; 2]) {
    shown.link.succeed(&["pause"]).await;
    for (node, cents) in shown.link.nodes().into_iter().zip(cents) {
        node.run(&format!("UPDATE prices SET cents = {cents} WHERE id = 1")).await;
    }
    shown.link.succeed(&["resume"]).await;
    browser.until("document.querySelector('#quarantine button[id^=take-0-]')").await;
}

/// What waits for a person is settled by a click on the node whose row is to stand.
async fn held_for_a_person(shown: &Shown, browser: &mut Browser) {
    priced_twice(shown, browser, [120, 130]).await;
    browser.click("#quarantine button[id^='take-0-']").await;
    browser
        .until("document.querySelector('#said').innerText.startsWith('to be as on shop: 1 row by the running bridge')")
        .await;
    eventually("the shop's price stands", async || {
        shown.link.b.value("SELECT cents FROM prices WHERE id = 1").await == "120"
    })
    .await;
    browser.until("!document.querySelector('#quarantine button[id^=take]')").await;
}

/// A row that stock refuses is discarded once it is sure that it is meant, and another one tried again.
async fn discarded_and_tried_again(shown: &Shown, browser: &mut Browser) {
    let refused = async |id: u32| {
        shown.link.a.run(&format!("UPDATE items SET quantity = -4 WHERE id = {id}")).await;
        let mut entry = 0;
        eventually("it is in quarantine", async || {
            let entries = shown.entries().await;
            let found = entries.iter().find(|entry| entry["key"] == json!([id]));
            entry = found.map_or(0, |entry| entry["id"].as_i64().unwrap());
            entry != 0
        })
        .await;
        entry
    };
    let entry = refused(3).await;
    browser.click(&format!("#discard-{entry}")).await;
    browser.until("document.querySelector('#sure').open").await;
    assert!(browser.text("#sure-text").await.starts_with("It drops these changes of 1 row"));
    browser.press("Escape").await;
    browser.until("document.querySelector('#said').innerText === 'Nothing was discarded.'").await;
    assert_eq!(shown.entries().await[0]["request"], Json::Null);
    browser.click(&format!("#discard-{entry}")).await;
    browser.until("document.querySelector('#sure').open").await;
    browser.click("#sure .danger").await;
    browser.until("document.querySelector('#said').innerText.startsWith('to be dropped: the changes of 1 row')").await;
    browser.until(&format!("!document.querySelector('#discard-{entry}')")).await;
    for (node, quantity) in [(&shown.link.a, "-4"), (&shown.link.b, "7")] {
        assert_eq!(node.value("SELECT quantity FROM items WHERE id = 3").await, quantity, "each keeps what it has");
    }

    let entry = refused(2).await;
    browser.click(&format!("#show-quarantine-{entry}")).await;
    browser.until("document.querySelector('#rows').open").await;
    assert!(browser.text("#rows table").await.contains("-4"));
    browser.press("Escape").await;
    let attempts = async || shown.entries().await[0]["attempts"].as_i64().unwrap();
    let before = attempts().await;
    browser.click(&format!("#retry-{entry}")).await;
    let said = "document.querySelector('#said').innerText.startsWith('to be tried again: 1 row by the running bridge')";
    browser.until(said).await;
    eventually("it was tried, and is refused still", async || attempts().await > before).await;
    shown.link.b.run("ALTER TABLE items DROP CONSTRAINT enough").await;
    // Unless its time has come meanwhile.
    browser.eval(&format!("document.querySelector('#retry-{entry}')?.click()")).await;
    browser.until(&format!("!document.querySelector('#retry-{entry}')")).await;
    eventually("it has healed", async || shown.link.b.value("SELECT quantity FROM items WHERE id = 2").await == "-4")
        .await;
}

/// By Tab all is reached that can be clicked, and it is seen where one is; Enter acts.
async fn by_the_keyboard(shown: &Shown, browser: &mut Browser) {
    browser.eval("document.activeElement.blur(), scrollTo(0, 0)").await;
    let all = "[...document.querySelectorAll('button, a, summary')].filter((e) => e.checkVisibility() && !e.closest('dialog'))";
    let wanted = browser.eval(&format!("{all}.map((e) => e.id || e.innerText)")).await;
    let wanted: Vec<String> = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert!(wanted.len() > 5 && wanted.contains(&"forget".to_owned()), "{wanted:?}");
    let mut reached = Vec::new();
    for _ in 0..4 * wanted.len() {
        browser.press("Tab").await;
        let at = browser.eval("[document.activeElement.id || document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]").await;
        assert!(
            at[1] != "none" || at[0].as_str().unwrap().is_empty() || at[0].as_str().unwrap().contains('\n'),
            "not seen: {at}"
        );
        reached.push(at[0].as_str().unwrap().to_owned());
    }
    let missed: Vec<_> =
        wanted.iter().filter(|name| !reached.contains(name) && !name.starts_with("show-conflict")).collect();
    assert!(missed.is_empty(), "{missed:?} of {reached:?}");
    // The focus is where it was, also when the page is new around it.
    browser.eval("document.querySelector('#switch-1').focus()").await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('#switch-1').innerText === 'Resume' && document.activeElement.id === 'switch-1'")
        .await;
    eventually("it is paused", async || shown.paused().await == [false, true]).await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('#switch-1').innerText === 'Pause' && document.activeElement.id === 'switch-1'")
        .await;
}

/// Nothing is beyond the edge of a phone, in either scheme, with a row that waits for a person; and the schemes are two.
async fn at_every_width(shown: &Shown, browser: &mut Browser) {
    let mut grounds = Vec::new();
    priced_twice(shown, browser, [140, 150]).await;
    browser.until("document.querySelectorAll('.way.flows').length === 2").await;
    if is_for_the_documents() {
        // So that the last minutes show something.
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    browser.eval("document.activeElement.blur(), document.querySelector('#said').innerText = ''").await;
    for (name, width, height, scheme) in [
        ("light", 1280, 900, "light"),
        ("dark", 1280, 900, "dark"),
        ("phone", 390, 844, "light"),
        ("phone-dark", 390, 844, "dark"),
    ] {
        browser.look(width, height, scheme).await;
        browser.until(&format!("innerWidth === {width}")).await;
        let [widest, seen] = ["scrollWidth", "clientWidth"].map(|size| format!("document.documentElement.{size}"));
        assert_eq!(browser.eval(&widest).await, browser.eval(&seen).await, "{name}: no scrolling sideways");
        let beyond = "[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('.wide') && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)";
        assert_eq!(browser.eval(beyond).await, json!([]), "{name}");
        grounds.push(browser.eval("getComputedStyle(document.body).backgroundColor").await);
        browser.eval("scrollTo(0, 0)").await;
        browser.shot(&picture(shown.folder(), name)).await;
    }
    assert!(grounds[0] != grounds[1] && grounds[0] == grounds[2] && grounds[1] == grounds[3], "{grounds:?}");
    browser.look(1280, 900, "light").await;
}

fn is_for_the_documents() -> bool {
    std::env::var_os("PONTOON_WRITE_DOCS").is_some()
}

fn picture(folder: &Path, name: &str) -> PathBuf {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures");
    if is_for_the_documents() { documents } else { folder.to_owned() }.join(format!("page-{name}.png"))
}

/// Nothing is loaded from elsewhere, nobody's script runs, and no other site's page can ask for anything, by whatever name.
async fn of_nothing_else(shown: &Shown, browser: &mut Browser) {
    let address = &shown.address;
    let port = address.rsplit(':').next().unwrap();
    let loaded =
        browser.eval("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)").await;
    assert!(
        loaded.as_array().unwrap().iter().all(|origin| *origin == format!("http://{address}").as_str()),
        "{loaded}"
    );
    let injected = "new Promise((done) => { addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective)); \
                    document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.title = 1' })); })";
    assert_eq!(browser.eval(injected).await, "script-src-elem");

    // The same page under another name is another site, and has no policy of its own here that would keep it from asking.
    browser.call("Page.setBypassCSP", json!({ "enabled": true })).await;
    browser.open(&format!("http://localhost:{port}/")).await;
    let ask = |options: &str| {
        format!(
            "fetch('http://{address}/api/pause', {{ method: 'POST', body: '{{}}', {options} }}).then((answer) => answer.type, () => 'refused')"
        )
    };
    let with_token = format!("headers: {{ 'content-type': 'application/json', authorization: 'Bearer {TOKEN}' }}");
    assert_eq!(browser.eval(&ask(&with_token)).await, "refused");
    // This one is sent, and its answer kept from the page.
    assert_eq!(browser.eval(&ask("mode: 'no-cors'")).await, "refused");
    assert_eq!(shown.paused().await, [false, false]);
    browser.open(&format!("http://{REBOUND}:{port}/")).await;
    assert!(browser.text("body").await.starts_with("no name of this page was asked for"));
}

/// A request as it is written, and the status and the whole answer.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Who refuses a body before it is read may break off.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
}

async fn send(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    exchange(TcpStream::connect(address).await.unwrap(), &format!("{request}\r\n{body}")).await
}

/// Each thing that has to be right is wrong in turn, and nothing is done; with all of them right it is.
async fn refuses_who_may_not(kinds: [Kind; 2]) {
    let shown = Shown::ready(kinds).await;
    let bridge = shown.link.run();
    bridge.works().await;
    let address = bridge.page().await;
    let bearer = format!("Bearer {TOKEN}");
    let right = [("host", address.as_str()), ("authorization", &bearer), ("content-type", "application/json")];
    let but = |name: &str, value: &'static str| {
        let mut headers = right.to_vec();
        headers.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            headers.push((
                if name == "origin" {
                    "origin"
                } else if name == "site" {
                    "sec-fetch-site"
                } else {
                    right.iter().find(|(known, _)| *known == name).unwrap().0
                },
                value,
            ));
        }
        headers
    };
    let large = format!("{{\"direction\":\"{}\"}}", "x".repeat(20_000));
    let all = "{\"direction\":null}";
    for (line, headers, body, code) in [
        ("GET /api/pause", but("", ""), all, 405),
        ("PUT /api/pause", but("", ""), all, 405),
        ("POST /api/pause", but("authorization", ""), all, 401),
        ("POST /api/pause", but("authorization", "Bearer a-token-of-the-tests-0123456780"), all, 401),
        ("POST /api/pause", but("host", ""), all, 421),
        ("POST /api/pause", but("host", "rebound.example"), all, 421),
        ("POST /api/pause", but("origin", "http://rebound.example"), all, 403),
        ("POST /api/pause", but("site", "cross-site"), all, 403),
        ("POST /api/pause", but("content-type", "text/plain"), all, 415),
        ("POST /api/pause", but("", ""), &large, 413),
        ("POST /api/pause", but("", ""), "{\"direction\":\"shop->shop\"}", 400),
        ("POST /api/pause", but("", ""), "{\"way\":null}", 400),
        ("POST /api/quarantine/retry", but("", ""), "{\"ids\":[4711]}", 400),
        ("POST /", but("", ""), "", 405),
        ("GET /rows/conflict/1", but("authorization", ""), "", 401),
        ("GET /rows/conflict/4711", but("", ""), "", 404),
        ("GET /rows/conflict/x", but("", ""), "", 404),
    ] {
        let (found, answer) = send(&address, line, &headers, body).await;
        assert_eq!(found, code, "{line} {headers:?}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'; "), "{answer}");
    }
    assert_eq!(shown.paused().await, [false, false]);
    let (code, answer) = send(&address, "POST /api/pause", &right, "{\"direction\":\"stock->shop\"}").await;
    assert!(
        code == 200 && answer.contains("\"said\":[\"stock -> shop: nothing is applied, until pontoon resume\"]"),
        "{answer}"
    );
    eventually("it is paused", async || shown.paused().await == [false, true]).await;
    assert_eq!(shown.link.succeed(&["resume"]).await.lines().count(), 2, "one and the same word");
    assert!(!bridge.log().contains(TOKEN));
    assert_eq!(bridge.stop().await, 0);
}

/// All directions are those that the bridge uses by now, whatever its file said when the page began.
async fn acts_on_what_is_taken_up(kinds: [Kind; 2]) {
    let shown = Shown::ready(kinds).await;
    let bridge = shown.link.run();
    bridge.works().await;
    shown.link.edit("[[tables]]\n", "[[tables]]\ndirection = \"shop->stock\"\n");
    shown.link.succeed(&["setup"]).await;
    shown.link.succeed(&["reload"]).await;
    eventually("one way is used", async || shown.status().await["directions"][1]["used"] == false).await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("host", shown.address.as_str()), ("authorization", &bearer), ("content-type", "application/json")];
    let (code, answer) = send(&shown.address, "POST /api/pause", &headers, "{}").await;
    assert!(
        code == 200 && answer.contains("\"said\":[\"shop -> stock: nothing is applied, until pontoon resume\"]"),
        "{answer}"
    );
    assert_eq!(bridge.stop().await, 0);
}

/// At an address that others reach nothing is read without the token, and commands find their bridge there; metrics and probes are where whoever asks may read them.
async fn with_tls_where_others_reach_it(kinds: [Kind; 2]) {
    let shown = Shown::ready(kinds).await;
    let made = rcgen::generate_simple_self_signed(["bridge.example".to_owned()]).unwrap();
    let [certificate, key] = ["page.crt", "page.key"].map(|name| shown.folder().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = shown.address.rsplit(':').next().unwrap().to_owned();
    let numbers = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    shown.configure(&format!(
        "listen = \"0.0.0.0:{port}\"\ntoken_file = \"token\"\ntls_cert = \"page.crt\"\ntls_key = \"page.key\"\nmetrics_listen = \"{numbers}\"\n"
    ));
    let bridge: Bridge = shown.link.run();
    eventually("it is alive", async || shown.link.command(&["health"]).await.code == 0).await;
    eventually("the bridge answers, and says so", async || shown.status().await["active"] == true).await;

    let tls = pontoon_tls::Own::new(&certificate, &key).unwrap();
    let ask = async |path: &str, more: &str| {
        let stream = tls.connect(TcpStream::connect(&shown.address).await.unwrap()).await.unwrap();
        exchange(stream, &format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{more}\r\n")).await
    };
    for path in ["/", "/page.js", "/api/status", "/metrics", "/livez", "/readyz", "/nothing"] {
        let (code, answer) = ask(path, "").await;
        assert!(code == 401 && answer.contains("www-authenticate: Basic "), "{path}: {answer}");
    }
    let (code, page) = ask("/", &format!("authorization: Bearer {TOKEN}\r\n")).await;
    assert!(code == 200 && page.contains("data-act=\"api/pause\""), "{page}");
    let plain = send(&shown.address, "GET /livez", &[("host", "127.0.0.1")], "").await;
    assert_eq!(plain.0, 0, "no HTTP where TLS is: {plain:?}");
    // Whatever name it is asked by, as a container's or a service's.
    let (code, metrics) = send(&numbers, "GET /metrics", &[("host", "pontoon:9788")], "").await;
    assert!(code == 200 && metrics.contains("pontoon_active{bridge=\"shop-stock\"} 1"), "{metrics}");
    for path in ["/", "/api/status", "/rows/conflict/1"] {
        assert_eq!(send(&numbers, &format!("GET {path}"), &[("host", "x")], "").await.0, 404, "{path}");
    }
    assert_eq!(bridge.stop().await, 0);
}

/// What is answered is what `docs/status.schema.json` says, by the page and by the command, running, paused, in trouble or not at all.
async fn the_status_is_as_published(kinds: [Kind; 2]) {
    let mut shown = Shown::ready(kinds).await;
    let schema: Json = serde_json::from_str(include_str!("../../docs/status.schema.json")).unwrap();
    let holds = |document: &Json| assert_eq!(faults(&schema, document), Vec::<String>::new(), "{document:#}");
    holds(&shown.status().await);
    let bridge = shown.link.run();
    bridge.works().await;
    let address = shown.address.clone();
    let answer = async || {
        let (code, answer) = send(&address, "GET /api/status", &[("host", "localhost")], "").await;
        assert!(code == 200 && answer.contains("content-type: application/json"), "{answer}");
        serde_json::from_str::<Json>(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    holds(&answer().await);
    shown.link.a.run("UPDATE items SET quantity = -1 WHERE id = 1").await;
    shown.link.succeed(&["pause", "stock->shop", "--for", "2h"]).await;
    eventually("a row is in quarantine, and a direction paused for a time", async || {
        let status = answer().await;
        holds(&status);
        status["quarantined_since"].is_string() && status["directions"][1]["paused_until"].is_string()
    })
    .await;
    let mut wrong = answer().await;
    wrong["directions"][0]["state"] = "resting".into();
    wrong["nodes"][1].as_object_mut().unwrap().remove("up");
    wrong["more"] = 1.into();
    assert_eq!(faults(&schema, &wrong).len(), 3, "{:?}", faults(&schema, &wrong));
    shown.link.b.server.kill().await.unwrap();
    eventually("a node is down, with its error", async || {
        let status = answer().await;
        holds(&status);
        status["nodes"][1]["error"]["code"].is_string()
    })
    .await;
    assert_eq!(bridge.stop().await, 0);
}
