//! The interface for programs: jobs and their events, errors with their fields, the description.

use super::Server;
use super::client::Answer;
use kao::control::Unattended;
use kao::requests::{Edit, Request};
use kao::sampler::SamplingConfig;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

/// The events of a job: names and data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let text = answer.text();
    let events = text.split("\n\n").filter_map(|event| {
        let (name, data) = event.trim_start_matches('\n').split_once('\n')?;
        let data = serde_json::from_str(data.strip_prefix("data: ")?).ok()?;
        Some((name.strip_prefix("event: ")?.to_owned(), data))
    });
    events.collect()
}

#[test]
fn a_job_tells_how_it_goes_with_pictures() {
    let server = Server::start();
    // The first job waits for the model, so that whoever listens sees the second one begin.
    let request = json!({ "kind": "sample", "request": { "count": 20, "steps": 6, "seed": 3 } });
    server.post("/api/v1/jobs", &request);
    let job = server.post("/api/v1/jobs", &request).json();
    let id = job["id"].as_str().unwrap();
    let answer = server.get(&format!("/api/v1/jobs/{id}/events"));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let events = events(&answer);
    let of = |name: &str| {
        events.iter().filter(|(known, _)| known == name).map(|(_, data)| data).collect::<Vec<_>>()
    };
    let previews = of("preview");
    assert!(previews.len() > 2, "{} previews", previews.len());
    for preview in &previews {
        // 20 images are a batch of 16 and one of 4.
        let batch = (preview["first"].as_u64().unwrap(), preview["count"].as_u64().unwrap());
        assert!([(0, 16), (16, 4)].contains(&batch), "{batch:?}");
        assert!(preview["png"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    }
    assert!(previews.iter().any(|preview| preview["first"] == 16));
    let progress = of("progress");
    let last = progress.last().unwrap();
    assert_eq!((&last["done"], &last["total"]), (&json!(120), &json!(120)));
    let states: Vec<&str> = of("job").iter().filter_map(|job| job["state"].as_str()).collect();
    assert_eq!(states.last(), Some(&"done"));
    assert_eq!(of("job").last().unwrap()["result"]["sets"][0]["count"], 20);
}

#[test]
fn a_cancel_frees_the_cores_within_a_step() {
    let server = Server::start();
    let long = json!({ "kind": "sample", "request": { "count": 64, "steps": 400 } });
    let id = server.post("/api/v1/jobs", &long).json()["id"].as_str().unwrap().to_owned();
    server.wait_for(&id, |job| job["progress"]["done"].as_u64() > Some(0));
    let before = server.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"").json();
    let job = server.end_of(&id);
    assert_eq!(job["state"], "cancelled");
    let done = |job: &Value| job["progress"]["done"].as_u64().unwrap();
    // Of 16 images a step; what was under way when the word came, and no more.
    assert!(done(&job) <= done(&before) + 2 * 16, "{} after {}", done(&job), done(&before));
    assert_eq!(server.get(&format!("/api/v1/jobs/{id}/images/grid.png")).status, 409);
}

#[test]
fn a_connection_that_closes_ends_its_job() {
    let server = Server::start();
    let long = json!({ "kind": "sample", "request": { "count": 64, "steps": 400 } });
    let id = server.post("/api/v1/jobs", &long).json()["id"].as_str().unwrap().to_owned();
    let mut stream = server.connect();
    let head = format!(
        "GET /api/v1/jobs/{id}/events?cancel=true HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n",
        server.port
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Something has come, so the server knows that somebody listens.
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    drop(stream);
    assert_eq!(server.end_of(&id)["state"], "cancelled");

    // The same for a picture that is waited for.
    let mut stream = server.connect();
    let head = format!(
        "GET /api/v1/sample.png?steps=400&count=64 HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n",
        server.port
    );
    stream.write_all(head.as_bytes()).unwrap();
    let newest = || server.get("/api/v1/jobs").json()["jobs"][0].clone();
    let started = Instant::now();
    while newest()["id"] == id.as_str() {
        assert!(started.elapsed() < Duration::from_secs(60));
    }
    drop(stream);
    let second = newest()["id"].as_str().unwrap().to_owned();
    assert_eq!(server.end_of(&second)["state"], "cancelled");
}

#[test]
fn a_comparison_is_there_as_it_is_made() {
    let server = Server::start();
    let request = json!({ "samplers": ["ddim"], "steps": [2, 3, 4], "count": 2, "seed": 3 });
    // Whoever listens sees the second one begin.
    server.post("/api/v1/jobs", &json!({ "kind": "compare", "request": request }));
    let job = server.post("/api/v1/jobs", &json!({ "kind": "compare", "request": request })).json();
    let id = job["id"].as_str().unwrap();
    let events = events(&server.get(&format!("/api/v1/jobs/{id}/events")));
    let mut n_sets = 0;
    let mut n_parts = 0;
    for (name, data) in &events {
        match name.as_str() {
            "result" => {
                n_parts += 1;
                n_sets += data["sets"].as_array().unwrap().len();
                assert_eq!(data["facts"]["planned"].as_array().unwrap().len(), 3);
                assert_eq!(data["facts"]["comparisons"].as_array().unwrap().len(), n_sets);
            }
            // A preview is of the combination behind those that are there.
            "preview" => assert_eq!(data["set"], n_sets),
            _ => {}
        }
    }
    assert!(n_parts > 1, "{n_parts}");
    let (_, last) = events.iter().rfind(|(name, _)| name == "job").unwrap();
    let sets = last["result"]["sets"].as_array().unwrap();
    let names: Vec<&str> = sets.iter().filter_map(|set| set["name"].as_str()).collect();
    assert_eq!(names, ["ddim-s0002-eta0", "ddim-s0003-eta0", "ddim-s0004-eta0"]);
    assert!(server.get("/metrics").text().contains("kao_images_total 12\n"));
    // What a cancelled one has made stays.
    let long = json!({ "samplers": ["ddim"], "steps": [1, 400], "count": 16 });
    let job = server.post("/api/v1/jobs", &json!({ "kind": "compare", "request": long })).json();
    let id = job["id"].as_str().unwrap();
    let grid = format!("/api/v1/jobs/{id}/ddim-s0001-eta0/grid.png");
    server.wait_for(id, |job| job["result"]["sets"][0].is_object());
    assert_eq!(server.get(&grid).status, 200);
    server.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"");
    assert_eq!(server.end_of(id)["state"], "cancelled");
    assert_eq!(server.get(&grid).status, 200);
}

#[test]
fn snapshots_lead_from_noise_to_the_image() {
    let server = Server::start();
    let job = server.job("sample", json!({ "count": 2, "steps": 4, "snapshots": 3 }));
    let sets = job["result"]["sets"].as_array().unwrap();
    let names: Vec<&str> = sets.iter().filter_map(|set| set["name"].as_str()).collect();
    assert_eq!(names, ["images", "snapshot-0", "snapshot-1", "snapshot-2"]);
    let id = job["id"].as_str().unwrap();
    let image = |set: &str| {
        let answer = server.get(&format!("/api/v1/jobs/{id}/{set}/1.png"));
        assert_eq!(answer.status, 200);
        answer.body
    };
    assert_ne!(image("snapshot-0"), image("snapshot-2"));
}

#[test]
fn errors_name_the_field() {
    let server = Server::start();
    for (request, field) in [
        (json!({ "steps": 0 }), "steps"),
        (json!({ "steps": 1001 }), "steps"),
        (json!({ "steps": "many" }), "steps"),
        (json!({ "steps": -3 }), "steps"),
        (json!({ "count": 0 }), "count"),
        (json!({ "count": 257 }), "count"),
        (json!({ "count": u64::MAX }), "count"),
        (json!({ "count": 1e300 }), "count"),
        (json!({ "count": 256, "snapshots": 60 }), "count"),
        (json!({ "snapshots": 61, "count": 1 }), "snapshots"),
        (json!({ "seed": 1.5 }), "seed"),
        (json!({ "sampler": "magic" }), "sampler"),
        (json!({ "spacing": "wide" }), "spacing"),
        (json!({ "end": 7 }), "end"),
        (json!({ "sampler": { "name": "ddim", "eta": 7 } }), "sampler.eta"),
        (json!({ "model": "../../etc/passwd" }), "model"),
        (json!({ "model": ["built-in"] }), "model"),
        (json!({ "guide": "nowhere" }), "guide"),
        (json!({ "tags": "smlie" }), "tags"),
        (json!({ "guidance": 300 }), "guidance"),
        (json!({ "out": "/tmp/x.png" }), "out"),
        (json!({ "noise": "/etc/passwd" }), "noise"),
        (json!({ "tags_from": "/etc/passwd" }), "tags_from"),
        (json!({ "save_tensors": "x" }), "save_tensors"),
        (json!({ "threads": 1000 }), "threads"),
        (json!({ "device": "cuda" }), "device"),
    ] {
        let answer = server.post("/api/v1/jobs", &json!({ "kind": "sample", "request": request }));
        assert_eq!(answer.status, 422, "{request}: {}", answer.text());
        assert_eq!(answer.field().as_deref(), Some(field), "{request}: {}", answer.text());
        assert!(answer.body.len() < 2000);
    }
    for (request, field) in [
        (json!({ "samplers": ["magic"] }), "samplers"),
        (json!({ "samplers": [] }), "samplers"),
        (json!({ "samplers": "ddim" }), "samplers"),
        (json!({ "steps": [0] }), "steps"),
        (json!({ "steps": [1001] }), "steps"),
        (json!({ "steps": [5], "evaluations": [5] }), "evaluations"),
        (json!({ "evaluations": [u64::MAX] }), "evaluations"),
        (json!({ "etas": [7] }), "etas"),
        (json!({ "etas": ["x"] }), "etas"),
        (json!({ "count": 257 }), "count"),
        (json!({ "steps": (1..64).collect::<Vec<_>>() }), "samplers"),
        (json!({ "steps": (1..21).collect::<Vec<_>>(), "count": 256 }), "count"),
        (json!({ "data": "faces" }), "data"),
        (json!({ "out": "/tmp/x" }), "out"),
    ] {
        let answer = server.post("/api/v1/jobs", &json!({ "kind": "compare", "request": request }));
        assert_eq!(answer.status, 422, "{request}: {}", answer.text());
        assert_eq!(answer.field().as_deref(), Some(field), "{request}: {}", answer.text());
    }
    let too_long = json!({ "kind": "sample", "request": { "count": 256, "steps": 1000 } });
    let answer = server.post("/api/v1/jobs", &too_long);
    if answer.status == 202 {
        // A fast machine makes it in time; nobody waits for it.
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(server.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"").status, 200);
    } else {
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (422, &json!("too-long")));
    }
    for (body, status) in [
        (&b"{"[..], 400),
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b"{}", 422),
        (b"{\"kind\":7}", 422),
        (b"{\"kind\":\"rm\"}", 422),
        (b"{\"kind\":\"sample\",\"request\":7}", 422),
        (b"{\"kind\":\"sample\",\"other\":7}", 422),
    ] {
        let answer = server.ask("POST", "/api/v1/jobs", &[], body);
        assert_eq!(answer.status, status, "{:?}", String::from_utf8_lossy(body));
        assert!(answer.json()["error"]["message"].is_string());
    }
    let nested = format!("{{\"kind\":{}", "[".repeat(60_000));
    assert_eq!(server.ask("POST", "/api/v1/jobs", &[], nested.as_bytes()).status, 400);
    for (path, status) in [
        ("/api/v1/jobs/0", 404),
        ("/api/v1/jobs/-1", 404),
        ("/api/v1/jobs/99999999999999999999999", 404),
        ("/api/v1/nowhere", 404),
        ("/api/v1/sample.png?steps=x", 422),
        ("/api/v1/sample.png?out=x", 422),
        ("/api/v1/sample.png?seed=%ff", 422),
    ] {
        assert_eq!(server.get(path).status, status, "{path}");
    }
    assert_eq!(server.ask("PUT", "/api/v1/jobs", &[], b"").status, 405);
    server.stop();
}

/// Whether a value has the shape of a schema, as far as the schemas here say anything.
fn check(schema: &Value, value: &Value, document: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return check(&document["components"]["schemas"][name], value, document, at);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let of = if value.is_null() { &options[0] } else { &options[1] };
        return check(of, value, document, at);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: type {other}"),
    };
    match &schema["type"] {
        Value::String(kind) => assert!(is(kind), "{at}: {value} is no {kind}"),
        Value::Array(kinds) => {
            assert!(kinds.iter().any(|kind| is(kind.as_str().unwrap())), "{at}: {value}")
        }
        _ => {}
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: no {name}");
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(schema, value, document, &format!("{at}.{name}"));
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            check(items, value, document, &format!("{at}[{index}]"));
        }
    }
}

/// A run of a few steps.
fn a_short_run(server: &Server) {
    let request = json!({
        "name": "first", "data": "faces", "preset": "tiny", "steps": 2, "batch_size": 4,
        "save_every": 1, "log_every": 1, "sample_count": 1,
    });
    let job = server.job("train", request);
    assert_eq!(job["state"], "done", "{job}");
}

#[test]
fn the_description_is_true() {
    let (server, folder) = Server::with_data();
    let document = server.get("/api/v1/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    a_short_run(&server);
    let picture = std::fs::read(folder.path().join("data/faces/face-000000.png")).unwrap();
    let upload = server.send(&picture);
    let job = server.job("sample", json!({ "count": 1, "steps": 1 }));
    let id = job["id"].as_str().unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 12);
    for (path, methods) in paths {
        let filled = [
            ("{id}", id),
            ("{set}", "images"),
            ("{file}", "0.png"),
            ("{run}", "first"),
            ("{step}", "2.png"),
            ("{folder}", "faces"),
            ("{name}", "face-000003.png"),
            ("{upload}", &upload),
        ]
        .iter()
        .fold(path.clone(), |path, (name, value)| path.replace(name, value));
        assert!(!filled.contains('{'), "{filled}");
        let filled = match path.as_str() {
            "/api/v1/sample.png" => format!("{filled}?steps=1"),
            _ => filled,
        };
        for (method, operation) in methods.as_object().unwrap() {
            let takes = &operation["requestBody"]["content"];
            let body = if takes.get("application/json").is_some() {
                br#"{"kind":"sample","request":{"count":1,"steps":1}}"#.to_vec()
            } else if takes.is_object() {
                picture.clone()
            } else {
                Vec::new()
            };
            let answer = server.ask(&method.to_uppercase(), &filled, &[], &body);
            let status = answer.status.to_string();
            assert!(status.starts_with('2'), "{method} {filled}: {}", answer.text());
            let described = &operation["responses"][&status];
            assert!(described.is_object(), "{method} {filled} answered {status}");
            let content = described["content"].as_object().unwrap();
            let found = answer.header("content-type").unwrap();
            assert!(content.contains_key(found), "{method} {filled}: {found}");
            if let Some(schema) = content[found].get("schema") {
                check(schema, &answer.json(), &document, &format!("{method} {path}"));
            }
        }
        let other = if methods.get("post").is_some() { "DELETE" } else { "POST" };
        assert_eq!(server.ask(other, &filled, &[], b"{}").status, 405, "{other} {filled}");
    }
    // What is said of a task's fields is what is taken.
    let kinds = document["components"]["schemas"]["NewJob"]["oneOf"].as_array().unwrap();
    for kind in kinds {
        let name = kind["properties"]["kind"]["const"].as_str().unwrap();
        for (field, schema) in kind["properties"]["request"]["properties"].as_object().unwrap() {
            assert!(schema["description"].as_str().is_some_and(|about| !about.is_empty()));
            let wrong = json!({ "kind": name, "request": { field: { "no": ["such"] } } });
            let answer = server.post("/api/v1/jobs", &wrong);
            assert_eq!(answer.status, 422, "{name}.{field}");
            assert_eq!(answer.field().as_deref(), Some(field.as_str()), "{}", answer.text());
        }
    }
}

#[test]
fn it_says_that_it_lives_and_what_it_has_done() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").text(), "ok\n");
    server.job("sample", json!({ "count": 3, "steps": 1 }));
    let metrics = server.get("/metrics").text();
    for line in
        ["kao_images_total 3\n", "kao_jobs_total{state=\"done\"} 1\n", "kao_jobs_running 0\n"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn the_end_lets_the_running_job_finish() {
    let server = Server::start();
    let request =
        |steps: u64| json!({ "kind": "sample", "request": { "count": 4, "steps": steps } });
    let id = server.post("/api/v1/jobs", &request(60)).json()["id"].as_str().unwrap().to_owned();
    let waiting =
        server.post("/api/v1/jobs", &request(60)).json()["id"].as_str().unwrap().to_owned();
    server.wait_for(&id, |job| job["state"] == "running");
    let mut streams: Vec<_> = [&id, &waiting]
        .map(|id| {
            let mut stream = server.connect();
            let head = format!(
                "GET /api/v1/jobs/{id}/events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n",
                server.port
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            reader
        })
        .into_iter()
        .collect();
    server.stop();
    let mut rest = streams.iter_mut().map(|reader| {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(reader, &mut text);
        text
    });
    let (first, second) = (rest.next().unwrap(), rest.next().unwrap());
    assert!(first.contains("\"state\":\"done\""), "{first}");
    assert!(second.contains("\"state\":\"cancelled\""), "{second}");
}

#[test]
fn a_training_lets_others_go_first_and_goes_on_after_a_stop() {
    let (server, folder) = Server::with_data();
    let request = json!({
        "name": "long", "data": "faces", "preset": "tiny", "batch_size": 4, "save_every": 100_000,
        "log_every": 1, "sample_count": 0,
    });
    let training =
        server.post("/api/v1/jobs", &json!({ "kind": "train", "request": request })).json();
    let id = training["id"].as_str().unwrap();
    assert!(training["command"].as_str().unwrap().starts_with("kao train "), "{training}");
    server.wait_for(id, |job| job["progress"]["values"]["loss"].is_number());
    let sampled = server.job("sample", json!({ "count": 2, "steps": 2 }));
    assert_eq!(sampled["state"], "done");
    assert_eq!(server.get(&format!("/api/v1/jobs/{id}")).json()["state"], "running");
    let runs = server.get("/api/v1/runs").json();
    assert_eq!(runs["runs"][0]["name"], "long");
    assert_eq!(runs["runs"][0]["running"], true);
    assert_eq!(server.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"").status, 200);
    assert_eq!(server.end_of(id)["state"], "cancelled");
    let run = server.get("/api/v1/runs/long").json();
    assert_eq!((&run["running"], &run["has_checkpoint"]), (&json!(false), &json!(true)));
    let step = run["step"].as_u64().unwrap();
    assert!(step > 0 && run["loss"].as_array().unwrap().len() as u64 >= step);

    let on = json!({ "kind": "train", "request": { "name": "long", "resume": true, "steps": step + 2 } });
    let on = server.post("/api/v1/jobs", &on).json();
    assert_eq!(server.end_of(on["id"].as_str().unwrap())["state"], "done", "{on}");
    assert_eq!(server.get("/api/v1/runs/long").json()["step"], step + 2);
    // Its model is there for images.
    let made = server.job("sample", json!({ "model": "run:long", "count": 1, "steps": 2 }));
    assert_eq!(made["state"], "done", "{made}");

    let twice = json!({ "kind": "train", "request": { "name": "long", "data": "faces" } });
    assert_eq!(server.post("/api/v1/jobs", &twice).field().as_deref(), Some("name"));
    for name in ["../elsewhere", "a/b", "", ".hidden"] {
        let new = json!({ "kind": "train", "request": { "name": name, "data": "faces" } });
        assert_eq!(server.post("/api/v1/jobs", &new).field().as_deref(), Some("name"), "{name}");
    }
    let entries = std::fs::read_dir(folder.path().join("runs")).unwrap();
    assert_eq!(entries.count(), 1);
}

#[test]
fn what_a_training_takes_is_told_and_nothing_is_written() {
    let (server, folder) = Server::with_data();
    let request = json!({ "name": "planned", "data": "faces", "preset": "tiny", "batch_size": 4 });
    let job = server.job("plan", request);
    let facts = &job["result"]["facts"];
    assert!(facts["seconds"].as_f64().unwrap() > 0.0, "{job}");
    assert!(facts["estimate"]["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(job["command"].as_str().unwrap().ends_with(" --dry-run"));
    assert_eq!(std::fs::read_dir(folder.path().join("runs")).unwrap().count(), 0);
    // Two clicks are one training: the second is refused while the first waits or runs.
    let steps = json!({ "name": "twice", "data": "faces", "preset": "tiny", "batch_size": 4, "steps": 500 });
    let asked = json!({ "kind": "train", "request": steps });
    let first = server.post("/api/v1/jobs", &asked);
    assert_eq!(first.status, 202, "{}", first.text());
    let second = server.post("/api/v1/jobs", &asked);
    assert_eq!((second.status, second.field().as_deref()), (422, Some("name")));
    let id = first.json()["id"].as_str().unwrap().to_owned();
    server.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], b"");
    // How long a run takes is no reason not to say it.
    let long = json!({ "name": "planned", "data": "faces", "preset": "tiny", "batch_size": 4, "steps": 1_000_000 });
    let job = server.job("plan", long);
    assert!(job["result"]["facts"]["seconds"].as_f64().unwrap() > 900.0, "{job}");
}

#[test]
fn pictures_are_named_with_their_tags_and_their_like() {
    let (server, folder) = Server::with_data();
    let all = server.get("/api/v1/data/faces?limit=5").json();
    assert_eq!((&all["count"], all["pictures"].as_array().unwrap().len()), (&json!(24), 5));
    let tag = all["tags"][0]["tag"].as_str().unwrap();
    let some = server.get(&format!("/api/v1/data/faces?tag={}", tag.replace(' ', "+"))).json();
    assert_eq!(some["chosen"], all["tags"][0]["count"]);
    let job = server.job("nearest", json!({ "data": "faces", "seed": 3, "steps": 2 }));
    let nearest = job["result"]["facts"]["nearest"].as_array().unwrap();
    assert_eq!(nearest.len(), 12, "{job}");
    let rms: Vec<f64> = nearest.iter().map(|near| near["rms"].as_f64().unwrap()).collect();
    assert!(rms.is_sorted());
    // Nothing outside, whatever links say.
    std::fs::write(folder.path().join("secret.png"), "secret").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        folder.path().join("secret.png"),
        folder.path().join("data/faces/zlink.png"),
    )
    .unwrap();
    for name in ["zlink.png", "..%2f..%2fsecret.png", "%2fetc%2fpasswd", "nowhere.png"] {
        let answer = server.get(&format!("/api/v1/data/faces/pictures/{name}"));
        assert_eq!(answer.status, 404, "{name}");
    }
}

#[test]
fn a_picture_that_was_sent_is_edited() {
    let (server, folder) = Server::with_data();
    let path = folder.path().join("data/faces/face-000001.png");
    let picture = std::fs::read(&path).unwrap();
    let id = server.send(&picture);
    let shown = server.get(&format!("/api/v1/uploads/{id}")).body;
    let pixels = |png: &[u8]| kao::dataset::Picture::decode(png).unwrap();
    assert!(pixels(&shown) == pixels(&picture));
    let request = json!({ "picture": id, "count": 2, "steps": 4, "strength": 0.5, "seed": 7 });
    let job = server.job("edit", request);
    assert_eq!(job["state"], "done", "{job}");
    let expected = "kao edit picture.png --count 2 --out variations.png --seed 7 --steps 4";
    assert_eq!(job["command"].as_str().unwrap().replace(" --strength 0.5", ""), expected);
    let edit = Edit {
        pictures: vec![path],
        count: Some(2),
        strength: Some(0.5),
        seed: 7,
        sampling: SamplingConfig { steps: Some(4), ..SamplingConfig::default() },
        ..Edit::default()
    };
    let edited = edit.run(&Unattended).unwrap();
    let job = job["id"].as_str().unwrap();
    for k in 0..2 {
        let found = server.get(&format!("/api/v1/jobs/{job}/images/{k}.png")).body;
        assert!(pixels(&found).bytes() == edited.images.to_bytes_hwc(k), "variation {k}");
    }
    let missing = json!({ "kind": "edit", "request": { "picture": "99" } });
    assert_eq!(server.post("/api/v1/jobs", &missing).field().as_deref(), Some("picture"));
    let path = json!({ "kind": "edit", "request": { "picture": "/etc/passwd" } });
    assert_eq!(server.post("/api/v1/jobs", &path).field().as_deref(), Some("picture"));
}

#[test]
fn a_picture_is_encoded_and_samples_are_measured() {
    let (server, folder) = Server::with_data();
    let picture = std::fs::read(folder.path().join("data/faces/face-000001.png")).unwrap();
    let id = server.send(&picture);
    let job = server.job("encode", json!({ "picture": id, "steps": 3 }));
    assert_eq!(job["state"], "done", "{job}");
    let sets = job["result"]["sets"].as_array().unwrap();
    let names: Vec<&str> = sets.iter().filter_map(|set| set["name"].as_str()).collect();
    assert_eq!(names, ["images", "noise", "original"]);
    assert!(job["result"]["facts"]["psnr"].as_f64().unwrap() > 0.0);
    assert!(job["command"].as_str().unwrap().starts_with("kao encode picture.png "), "{job}");
    // Files have the names that they have for whoever sent them.
    let id = job["id"].as_str().unwrap();
    let png = server.get(&format!("/api/v1/jobs/{id}/images/0.png")).body;
    let file = folder.path().join("decoded.png");
    std::fs::write(&file, png).unwrap();
    let texts = kao::render::read_png_text(&file).unwrap();
    let command = &texts["command"];
    assert_eq!(command, "kao encode picture.png --out noise.safetensors --steps 3");
    assert!(texts.values().all(|text| !text.contains("studio-")), "{texts:?}");
    let job = server.job("evaluate", json!({ "data": "faces", "count": 4, "steps": 1 }));
    let facts = &job["result"]["facts"];
    let both = [&facts["distance"], &facts["floor"]].map(|value| value.as_f64().unwrap());
    assert!(both[0] > both[1] && both[1] > 0.0, "{job}");
}
