//! A browser that does what it is told, over the WebDriver protocol of the W3C: JSON over HTTP to
//! `chromedriver`.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the page has to become what a test waits for.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Opens a window of this size, without a screen.
    pub fn open(width: u32, height: u32) -> Self {
        // The port is free when the driver takes it, unless somebody is very quick.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: apt install chromium chromium-driver");
        let mut browser = Browser { driver, port, session: String::new() };
        let started = Instant::now();
        while browser.call("GET", "/status", None).is_err() {
            assert!(started.elapsed() < PATIENCE, "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--lang=en",
            &format!("--window-size={width},{height}"),
        ];
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = browser.call("POST", "/session", Some(&wanted)).unwrap();
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser.resize(width, height);
        browser
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let said = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(said)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).map_err(said)?;
        // The driver keeps the connection open, whatever it is asked for.
        let mut reader = BufReader::new(stream);
        let mut n_bytes = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).map_err(said)? == 0 {
                return Err("no answer".to_owned());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length:") {
                n_bytes = length.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; n_bytes];
        reader.read_exact(&mut answer).map_err(said)?;
        let value: Value = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        match value["value"].get("error") {
            Some(error) => Err(format!("{error}: {}", value["value"]["message"])),
            None => Ok(value["value"].clone()),
        }
    }

    fn within(&self, method: &str, path: &str, body: Value) -> Value {
        let body = (method != "GET").then_some(&body);
        self.call(method, &format!("/session/{}{path}", self.session), body).unwrap()
    }

    fn tell(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.within("POST", "/goog/cdp/execute", body);
    }

    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size);
    }

    pub fn prefer(&self, scheme: &str, motion: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Looks at the page narrow and wide, light and dark: nowhere is it wider than the window.
    pub fn fits_everywhere(&self, name: &str) {
        for (width, scheme) in [(360, "dark"), (360, "light"), (800, "dark"), (1400, "dark")] {
            self.resize(width, 900);
            self.prefer(scheme, "reduce");
            let overflow = "return document.documentElement.scrollWidth - innerWidth";
            assert!(self.run(overflow).as_i64().unwrap() <= 0, "{name}: wider than {width}");
            self.screenshot(&format!("{name}-{width}-{scheme}"));
        }
        self.resize(1400, 900);
        self.prefer("light", "no-preference");
    }

    pub fn go(&self, url: &str) {
        self.within("POST", "/url", json!({ "url": url }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.within("POST", "/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub fn wait_for(&self, expression: &str) {
        self.wait_within(expression, PATIENCE);
    }

    /// The same, for what may take longer.
    pub fn wait_within(&self, expression: &str, patience: Duration) {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != json!(true) {
            if started.elapsed() > patience {
                self.screenshot("timeout");
                panic!(
                    "not within {patience:?}: {expression}\n{}",
                    self.run("return document.body.innerText")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a button below the large view of a face, as soon as it is there.
    pub fn act(&self, label: &str) {
        self.wait_for("document.querySelector('.viewer .actions button')");
        self.run(&format!(
            "[...document.querySelectorAll('.viewer .actions button')] \
             .find((button) => button.textContent === {label:?}).click()"
        ));
    }

    /// Presses what a selector finds, as a user does.
    pub fn click(&self, selector: &str) {
        let body = json!({ "using": "css selector", "value": selector });
        let element = self.within("POST", "/element", body);
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.run(&format!(
            "document.querySelector({selector:?}).scrollIntoView({{ block: 'center' }})"
        ));
        self.within("POST", &format!("/element/{id}/click"), json!({}));
    }

    /// Types keys into whatever has the focus.
    pub fn press(&self, key: &str) {
        let actions = json!([{
            "type": "key", "id": "keys",
            "actions": [{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }],
        }]);
        self.within("POST", "/actions", json!({ "actions": actions }));
    }

    /// Sets the value of a control, and tells the page of it.
    pub fn set(&self, selector: &str, value: &str) {
        self.run(&format!(
            "const it = document.querySelector({selector:?}); it.value = {value:?}; \
             it.dispatchEvent(new Event('input', {{ bubbles: true }})); \
             it.dispatchEvent(new Event('change', {{ bubbles: true }}));"
        ));
    }

    /// The same as soon as the control is there.
    pub fn set_when_there(&self, selector: &str, value: &str) {
        self.wait_for(&format!("document.querySelector({selector:?})"));
        self.set(selector, value);
    }

    fn element(&self, selector: &str) -> Value {
        self.within("POST", "/element", json!({ "using": "css selector", "value": selector }))
    }

    /// Chooses a file, as in the dialog of the system.
    pub fn choose(&self, selector: &str, file: &Path) {
        let element = self.element(selector);
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        let text = file.to_str().unwrap();
        self.within("POST", &format!("/element/{id}/value"), json!({ "text": text }));
    }

    /// Drags from one point to another, both seen from the middle of what a selector finds.
    pub fn drag(&self, selector: &str, from: (i64, i64), to: (i64, i64)) {
        self.run(&format!(
            "document.querySelector({selector:?}).scrollIntoView({{ block: 'center' }})"
        ));
        let origin = self.element(selector);
        let move_to = |(x, y): (i64, i64)| json!({ "type": "pointerMove", "duration": 60, "origin": origin, "x": x, "y": y });
        let actions = json!([{
            "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" },
            "actions": [
                move_to(from), { "type": "pointerDown", "button": 0 },
                move_to(to), { "type": "pointerUp", "button": 0 },
            ],
        }]);
        self.within("POST", "/actions", json!({ "actions": actions }));
    }

    /// Takes the pointer away from what it points at.
    pub fn move_away(&self) {
        let away = json!({ "type": "pointerMove", "duration": 0, "x": 1, "y": 1 });
        let actions = json!([{
            "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" },
            "actions": [away],
        }]);
        self.within("POST", "/actions", json!({ "actions": actions }));
    }

    /// Keeps a picture of the window.
    pub fn screenshot(&self, name: &str) {
        let Some(folder) = std::env::var_os("KAO_SCREENSHOTS").map(PathBuf::from) else { return };
        let picture = self.within("GET", "/screenshot", Value::Null);
        std::fs::create_dir_all(&folder).unwrap();
        let bytes = decoded(picture.as_str().unwrap());
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// No error in the console, and no request to another host than `host`.
    pub fn is_clean(&self, host: &str) {
        self.is_clean_but_for(host, "no such text");
    }

    /// The same, but for entries with these words: browsers log answers that refuse something.
    pub fn is_clean_but_for(&self, host: &str, words: &str) {
        let log = |kind: &str| self.within("POST", "/se/log", json!({ "type": kind }));
        let console = log("browser");
        let errors: Vec<&Value> = console
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            .filter(|entry| !entry["message"].as_str().is_some_and(|text| text.contains(words)))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let mut n_requests = 0;
        for entry in log("performance").as_array().unwrap() {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = message["message"]["params"]["request"]["url"].as_str().unwrap();
            let is_own = url.starts_with(&format!("http://{host}/"))
                || ["data:", "blob:", "about:"].iter().any(|start| url.starts_with(start));
            assert!(is_own, "a request to {url}");
            n_requests += 1;
        }
        assert!(n_requests > 3, "{n_requests} requests were seen");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("DELETE", &format!("/session/{}", self.session), None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Base64 to bytes.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&c| c != b'=').map(value).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let bits = four.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(digit));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}
