//! A headless Chromium, spoken to as its own tools do (the DevTools protocol), by a pipe: no port, no driver, no dependency.
//!
//! <https://chromedevtools.github.io/devtools-protocol/>; with `--remote-debugging-pipe` each message ends with a zero byte, and file descriptors 3 and 4 are
//! its way in and out, which a shell makes of its standard input and output.

use std::{path::Path, process::Stdio};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{DEADLINE, eventually};

/// A name that is made to mean this host, as a site does whose owner wants to be taken for the page.
pub(crate) const REBOUND: &str = "rebound.example";

/// A browser with one window. It is killed when dropped.
pub(crate) struct Browser {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: String,
    last: u64,
}

impl Browser {
    /// Starts it, with all that it keeps in a folder.
    pub(crate) async fn start(folder: &Path) -> Browser {
        let mut command = Command::from(pontoon_servers::bound_command("sh").unwrap());
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", "chromium"]);
        // Its sandbox needs rights that the tests do not have everywhere, and it is to see nothing but the page.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--no-proxy-server",
        ]);
        command.args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]);
        command.arg(format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP *.com ~NOTFOUND"));
        command.arg(format!("--user-data-dir={}", folder.join("browser").display())).arg("about:blank");
        let log = std::fs::File::create(folder.join("browser.log")).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Browser { _child: child, input, output, session: String::new(), last: 0 };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page.enable", "Runtime.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// One command and its answer. What it tells in between is left out.
    pub(crate) async fn call(&mut self, method: &str, parameters: Json) -> Json {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).await.expect("chromium runs: scripts/install-servers");
        let answered = async {
            loop {
                let mut read = Vec::new();
                self.output.read_until(0, &mut read).await.unwrap();
                assert!(read.pop().is_some(), "the browser has ended; is it there? scripts/install-servers");
                let answer: Json = serde_json::from_slice(&read).unwrap();
                if answer["id"] == self.last {
                    break answer;
                }
            }
        };
        let answer = timeout(DEADLINE, answered).await.unwrap_or_else(|_| panic!("no answer to {method}"));
        assert!(answer["error"].is_null(), "{method}: {answer:#}");
        answer["result"].clone()
    }

    /// The size of the window, and which of the two colour schemes the user wants.
    pub(crate) async fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let is_phone = width < 500;
        let scale = if is_phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens a page, and waits for all of it.
    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        let loaded = format!("location.href.startsWith({url:?}) && document.readyState === 'complete'");
        self.until(&loaded).await;
    }

    /// What an expression of a script comes to in the page, a promise what it is kept with.
    pub(crate) async fn eval(&mut self, expression: &str) -> Json {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", parameters).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result:#}");
        result["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) {
        let browser = tokio::sync::Mutex::new(self);
        eventually(&format!("in the page: {expression}"), async || {
            // Between two pages there is none to ask.
            let guarded = format!("(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()");
            browser.lock().await.eval(&guarded).await == true
        })
        .await;
    }

    /// Clicks with the mouse where an element is, which has to be seen there.
    pub(crate) async fn click(&mut self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})")).await;
        let place = self
            .eval(&format!(
                "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
                 const r = e.getBoundingClientRect(); const [x, y] = [r.x + r.width / 2, r.y + r.height / 2]; \
                 return [x, y, e.contains(document.elementFromPoint(x, y))]; }})()"
            ))
            .await;
        assert_eq!(place[2], true, "{selector} is not to be seen: {place}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`.
    pub(crate) async fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => panic!("{other} is not known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types into what has the focus.
    pub(crate) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// The page from its top, as much of it as a reader looks at, as PNG.
    pub(crate) async fn shot(&mut self, file: &Path) {
        let size = self.eval("[innerWidth, Math.min(document.documentElement.scrollHeight, 1400)]").await;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let options = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.call("Page.captureScreenshot", options).await;
        std::fs::write(file, BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }
}
