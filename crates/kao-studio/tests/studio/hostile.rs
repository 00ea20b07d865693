//! Who must not get in, and what must not make the server fall over.

use super::Server;
use kao_studio::{Options, Studio};
use serde_json::json;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const TOKEN: &str = "a-token-for-tests";

#[test]
fn another_host_another_origin_another_site() {
    let server = Server::start();
    let body = json!({ "kind": "sample", "request": { "count": 1, "steps": 1 } }).to_string();
    let ask =
        |headers: &[(&str, &str)]| server.ask("POST", "/api/v1/jobs", headers, body.as_bytes());
    for host in
        ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", "127.0.0.1:1"]
    {
        assert_eq!(ask(&[("Host", host)]).status, 421, "{host}");
        assert_eq!(server.ask("GET", "/", &[("Host", host)], b"").status, 421, "{host}");
    }
    let absolute = format!(
        "POST http://evil.example/api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        server.port
    );
    assert!(server.raw(absolute.as_bytes()).starts_with(b"HTTP/1.1 421"));
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(ask(&[("Origin", origin)]).status, 403, "{origin}");
    }
    assert_eq!(ask(&[("Sec-Fetch-Site", "cross-site")]).status, 403);
    let picture = server.ask(
        "GET",
        "/api/v1/sample.png?steps=1",
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        b"",
    );
    assert_eq!(picture.status, 403);
    assert_eq!(server.get("/api/v1/jobs").json()["jobs"], json!([]), "a job was made");
    let own = format!("http://127.0.0.1:{}", server.port);
    assert_eq!(ask(&[("Origin", &own)]).status, 202);
}

#[test]
fn other_machines_need_the_token() {
    let options =
        Options { host: "0.0.0.0".into(), token: Some(TOKEN.into()), ..Options::default() };
    let server = Server::with(options);
    assert!(server.url.ends_with(&format!("/?token={TOKEN}")));
    for path in [
        "/",
        "/static/app.js",
        "/api/v1/models",
        "/api/v1/openapi.json",
        "/metrics",
        "/?token=",
        "/?token=wrong",
        &format!("/api/v1/models?token={TOKEN}"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(!answer.text().contains(TOKEN));
    }
    assert_eq!(server.get("/healthz").status, 200);
    let opened = server.get(&format!("/?token={TOKEN}"));
    assert_eq!((opened.status, opened.header("location")), (303, Some("/")));
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(server.ask("GET", "/api/v1/models", &[("Cookie", cookie)], b"").status, 200);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(server.ask("GET", "/api/v1/models", &[("Authorization", &bearer)], b"").status, 200);
    let wrong = [("Cookie", cookie), ("Origin", "http://evil.example")];
    assert_eq!(server.ask("POST", "/api/v1/jobs", &wrong, b"{}").status, 403);
}

#[test]
fn a_token_is_made_where_none_is_given() {
    let options = || Options { host: "0.0.0.0".into(), port: 0, ..Options::default() };
    let [one, other] = [(), ()].map(|()| Studio::bind(options()).unwrap().url().to_owned());
    let token = |url: &str| url.split_once("?token=").unwrap().1.to_owned();
    assert!(token(&one).len() >= 32 && token(&one) != token(&other));
}

#[test]
fn answers_forbid_what_pages_do_not_need() {
    let server = Server::start();
    for path in ["/", "/static/app.js", "/api/v1/models", "/nowhere", "/api/v1/jobs/7"] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn no_parameter_is_a_path() {
    let server = Server::start();
    for path in [
        "/static/../Cargo.toml",
        "/static/..%2fCargo.toml",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "//etc/passwd",
        "/api/v1/jobs/..%2f..",
        "/api/v1/jobs/1/..%2f..%2fetc/passwd",
        "/api/v1/jobs/1/images/..%2f0.png",
        "/api/v1/runs/..%2f..",
        "/api/v1/data/..%2f..%2fetc/pictures/0",
    ] {
        let answer = server.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("root:"), "{path}");
    }
    for model in ["..", "../x", "/etc/passwd", "..%2f..", "run:..", "built-in/../x"] {
        let answer = server.get(&format!("/api/v1/sample.png?model={model}"));
        assert_eq!((answer.status, answer.field().as_deref()), (422, Some("model")), "{model}");
    }
}

#[test]
fn no_field_of_any_task_is_a_path() {
    let (server, folder) = Server::with_data();
    std::fs::write(folder.path().join("secret.png"), b"secret").unwrap();
    let own = folder.path().join("secret.png").display().to_string();
    let document = server.get("/api/v1/openapi.json").json();
    let kinds = document["components"]["schemas"]["NewJob"]["oneOf"].as_array().unwrap();
    let mut n_tried = 0;
    for kind in kinds {
        let name = kind["properties"]["kind"]["const"].as_str().unwrap();
        for field in kind["properties"]["request"]["properties"].as_object().unwrap().keys() {
            for path in ["..", "../../etc/passwd", "/etc/passwd", "..\\..\\x", &own, "\0"] {
                // With what each kind needs, or that would be what is refused.
                let mut request = json!({ "data": "faces", "name": "new" });
                let known = &kind["properties"]["request"]["properties"];
                request.as_object_mut().unwrap().retain(|field, _| known[field].is_object());
                for value in [json!(path), json!([path]), json!({ "name": path })] {
                    request[field] = value;
                    let asked = json!({ "kind": name, "request": request });
                    let answer = server.post("/api/v1/jobs", &asked);
                    assert_eq!(answer.status, 422, "{name}.{field} = {path}: {}", answer.text());
                    assert!(!answer.text().contains("root:"), "{name}.{field}");
                    n_tried += 1;
                }
            }
        }
    }
    assert!(n_tried > 500, "{n_tried}");
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for bad in ["..", "%2e%2e", "..%2f..%2fsecret.png", "%2fetc%2fpasswd", "%00", "..%5c.."] {
            let filled: Vec<&str> = path
                .split('/')
                .map(|part| if part.starts_with('{') { bad } else { part })
                .collect();
            let mut all = vec![filled.join("/")];
            let parameters = methods["get"]["parameters"].as_array().into_iter().flatten();
            all.extend(parameters.filter(|parameter| parameter["in"] == "query").map(
                |parameter| {
                    let name = parameter["name"].as_str().unwrap();
                    format!("{}?{name}={bad}", path.replace("{folder}", "faces"))
                },
            ));
            for address in all.iter().filter(|address| address.contains(bad)) {
                let answer = server.get(address);
                // A tag of this name is a tag that no picture has.
                let is_tag = address.contains("?tag=") && answer.status == 200;
                let is_refused = [400, 404, 405, 422].contains(&answer.status);
                assert!(is_refused || is_tag, "{address}: {}", answer.status);
                assert!(!answer.text().contains("secret\n") && !answer.text().contains("root:"));
            }
        }
    }
    assert!(std::fs::read_dir(folder.path().join("runs")).unwrap().next().is_none());
}

#[test]
fn broken_requests_are_answered_or_dropped() {
    let server = Server::start();
    let long = "x".repeat(1 << 20);
    for bytes in [
        b"\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n").into_bytes(),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".to_vec(),
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let answer = server.raw(&bytes);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&bytes[..40.min(bytes.len())]));
    }
    let large = vec![b' '; 100 << 10];
    assert_eq!(server.ask("POST", "/api/v1/jobs", &[], &large).status, 413);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn half_sent_and_silent_connections_keep_nobody_waiting() {
    let server = Server::start();
    let mut held = Vec::new();
    for k in 0..200 {
        let mut stream = server.connect();
        match k % 3 {
            0 => {}
            1 => stream.write_all(b"POST /api/v1/jobs HTTP/1.1\r\nHost: ").unwrap(),
            _ => {
                let head = format!(
                    "POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 60000\r\n\r\n{{\"kind\":",
                    server.port
                );
                stream.write_all(head.as_bytes()).unwrap();
            }
        }
        held.push(stream);
    }
    let started = Instant::now();
    assert_eq!(server.get("/api/v1/about").status, 200);
    assert!(started.elapsed() < Duration::from_secs(10));
    // Those that never finish their head are not waited for.
    let mut silent = held.swap_remove(1);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 2"));
}

#[test]
fn uploads_that_are_not_finished_do_not_fill_the_memory() {
    let server = Server::start();
    let head = format!(
        "POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 10400000\r\n\r\n",
        server.port
    );
    let half = vec![b'x'; 10_000_000];
    let mut held: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for stream in &mut held {
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&half).unwrap();
    }
    let whole = || server.ask("POST", "/api/v1/uploads", &[], &half[..9_000_000]);
    let wait_for = |status: u16| {
        let started = Instant::now();
        loop {
            let answer = whole();
            if answer.status == status {
                return answer;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{}", answer.text());
        }
    };
    let refused = wait_for(429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(server.get("/api/v1/about").status, 200);
    // Their room is free again when they are gone; and nines of x are no picture.
    drop(held);
    wait_for(422);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_again() {
    let server = Server::start();
    let request = json!({ "kind": "sample", "request": { "count": 64, "steps": 300 } });
    let answers: Vec<_> = (0..40).map(|_| server.post("/api/v1/jobs", &request)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("a bounded queue");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert_eq!(refused.json()["error"]["code"], "busy");
    for job in server.get("/api/v1/jobs").json()["jobs"].as_array().unwrap() {
        let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
        assert_eq!(server.ask("DELETE", &path, &[], b"").status, 200);
    }
    let started = Instant::now();
    while server.get("/metrics").text().contains("kao_jobs_running 1") {
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}

/// A PNG of this size whose pixels are all 0, packed a thousandfold.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; side as usize * 3];
    (0..side).for_each(|_| stream.write_all(&row).unwrap());
    stream.finish().unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn pictures_that_are_none_or_too_large_are_refused() {
    let server = Server::start();
    let send = |bytes: &[u8]| server.ask("POST", "/api/v1/uploads", &[], bytes);
    for bytes in [&b""[..], b"<svg/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a\xff\xff\xff\xff"]
    {
        assert_eq!(send(bytes).status, 422, "{bytes:?}");
    }
    assert_eq!(send(&vec![0; (10 << 20) + 1]).status, 413);
    // A few hundred kilobytes that are 49 and 400 megapixels.
    let seven = bomb(7000);
    assert!(seven.len() < 1 << 20, "{}", seven.len());
    assert_eq!(send(&seven).status, 413);
    // What a header declares is enough to refuse it: nothing of its pixels is there.
    let header = &seven[..seven.len().min(64)];
    let answer = send(header);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("7000×7000 pixels"), "{}", answer.text());
    let mut declared = bomb(16);
    declared[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    assert_eq!(send(&declared).status, 422);
    assert_eq!(send(&bomb(16)).status, 201);
    assert_eq!(server.get("/api/v1/uploads/..%2f1").status, 404);
}
