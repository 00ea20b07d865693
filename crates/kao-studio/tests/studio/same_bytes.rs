//! A job gives the bytes that the same request gives in the terminal, which writes what the library
//! writes.

use super::Server;
use kao::control::Unattended;
use kao::requests::{Compare, Draw, Request, Sample, Train};
use serde_json::{Value, json};
use std::path::Path;

/// The file that the terminal writes for a request.
fn in_the_terminal(request: &Value, out: &Path) -> Vec<u8> {
    let mut request = request.clone();
    request["out"] = out.to_str().unwrap().into();
    Sample::from_json(&request.to_string()).unwrap().run(&Unattended).unwrap();
    std::fs::read(out).unwrap()
}

#[test]
fn jobs_give_the_bytes_of_the_terminal() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    for (index, request) in [
        json!({ "count": 1, "steps": 3 }),
        json!({ "count": 5, "steps": 2, "seed": 7, "columns": 3 }),
        json!({ "count": 2, "steps": 2, "sampler": "euler" }),
        json!({ "count": 2, "steps": 2, "sampler": { "name": "ddim", "eta": 1.0 } }),
        json!({ "count": 1, "steps": 2, "sampler": { "name": "ddpm", "variance": "beta" } }),
        json!({ "count": 1, "steps": 3, "spacing": "quadratic" }),
        json!({ "count": 1, "steps": 3, "spacing": "leading", "end": "clean", "clip": true }),
        json!({ "count": 2, "steps": 2, "seed": 7, "first": 3 }),
        json!({ "count": 17, "steps": 1 }),
        json!({ "count": 1, "steps": 2, "seed": u64::MAX }),
    ]
    .into_iter()
    .enumerate()
    {
        let job = server.job("sample", request.clone());
        assert_eq!(job["state"], "done", "{job}");
        let id = job["id"].as_str().unwrap();
        let answer = server.get(&format!("/api/v1/jobs/{id}/images/grid.png"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/png")));
        let expected = in_the_terminal(&request, &folder.path().join(format!("{index}.png")));
        assert!(answer.body == expected, "{request}");
    }
}

#[test]
fn a_comparison_gives_the_files_of_the_terminal() {
    let (server, folder) = Server::with_data();
    let real = folder.path().join("real");
    Draw { count: 24, out: real.clone(), size: 32, seed: 1, ..Draw::default() }
        .run(&Unattended)
        .unwrap();
    for (index, (request, data)) in [
        (json!({ "samplers": ["ddim", "heun"], "steps": [2, 3], "etas": [0, 1], "count": 3 }), None),
        (
            json!({ "samplers": ["dpm++"], "evaluations": [2], "count": 4, "seed": 5, "columns": 2 }),
            Some("faces"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut asked = request.clone();
        if let Some(data) = data {
            asked["data"] = data.into();
        }
        let job = server.job("compare", asked);
        assert_eq!(job["state"], "done", "{job}");
        let out = folder.path().join(format!("compared-{index}"));
        let compare = Compare {
            out: out.clone(),
            data: data.map(|_| folder.path().join("data/faces")),
            ..Compare::from_json(&request.to_string()).unwrap()
        };
        let compared = compare.run(&Unattended).unwrap();
        let id = job["id"].as_str().unwrap();
        let numbers = &job["result"]["facts"]["comparisons"];
        assert_eq!(numbers.as_array().unwrap().len(), compared.comparisons.len());
        for (of, served) in compared.comparisons.iter().zip(numbers.as_array().unwrap()) {
            let grid = server.get(&format!("/api/v1/jobs/{id}/{}/grid.png", of.name)).body;
            let expected = std::fs::read(out.join(format!("grid-{}.png", of.name))).unwrap();
            assert!(grid == expected, "{}", of.name);
            assert_eq!(served["name"], of.name);
            assert_eq!(served["evaluations"], of.evaluations);
            assert_eq!(served["distance"].as_f64(), of.distance);
            assert_eq!(served["distance"].is_null(), data.is_none());
            assert!(served["seconds_per_image"].as_f64().unwrap() > 0.0);
        }
        let command = job["command"].as_str().unwrap();
        assert!(command.starts_with("kao compare ") && command.contains(" --out compared"), "{job}");
        // Each image alone is made by the command line that it names.
        let first = &job["result"]["sets"][0];
        let command = first["commands"][1].as_str().unwrap();
        assert!(command.starts_with("kao sample") && command.contains("--pick 1"), "{command}");
    }
}

#[test]
fn a_training_gives_the_model_of_the_terminal() {
    let (server, folder) = Server::with_data();
    let request = json!({
        "preset": "tiny", "steps": 2, "batch_size": 4, "save_every": 2, "sample_count": 0,
    });
    let mut asked = request.clone();
    (asked["name"], asked["data"]) = ("first".into(), "faces".into());
    let job = server.job("train", asked);
    assert_eq!(job["state"], "done", "{job}");
    let out = folder.path().join("terminal");
    let data = Some(folder.path().join("data/faces"));
    let train = Train { data, out, ..Train::from_json(&request.to_string()).unwrap() };
    let model = train.run(&Unattended).unwrap().model;
    let served = folder.path().join("runs/first").join(model.file_name().unwrap());
    assert!(std::fs::read(served).unwrap() == std::fs::read(model).unwrap());
}

/// The picture without its texts, which say more of an image alone than of one among others.
fn pixels(png: &[u8]) -> Vec<u8> {
    kao::dataset::Picture::decode(png).unwrap().into_bytes()
}

#[test]
fn an_image_alone_is_what_its_command_line_makes() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let request = json!({ "count": 3, "steps": 2, "seed": 7, "first": 1, "sampler": { "name": "ddim", "eta": 0.5 } });
    let job = server.job("sample", request.clone());
    let id = job["id"].as_str().unwrap();
    for index in 0..3 {
        let command = job["result"]["sets"][0]["commands"][index].as_str().unwrap();
        let number = index + 1;
        assert!(command.contains(&format!("--pick {number}")), "{command}");
        let mut alone = request.clone();
        for field in ["first", "count"] {
            alone.as_object_mut().unwrap().remove(field);
        }
        alone["pick"] = json!([number]);
        let expected = in_the_terminal(&alone, &folder.path().join(format!("{index}.png")));
        let answer = server.get(&format!("/api/v1/jobs/{id}/images/{index}.png"));
        assert!(pixels(&answer.body) == pixels(&expected), "image {index}");
        let alone = server.job("sample", alone);
        let alone = alone["id"].as_str().unwrap();
        assert!(server.get(&format!("/api/v1/jobs/{alone}/images/grid.png")).body == expected);
    }
    assert_eq!(server.get(&format!("/api/v1/jobs/{id}/images/3.png")).status, 404);
}

#[test]
fn an_address_is_a_picture() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let answer = server.get("/api/v1/sample.png?seed=7&steps=3&eta=0.5");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/png")));
    let request =
        json!({ "seed": 7, "steps": 3, "count": 1, "sampler": { "name": "ddim", "eta": 0.5 } });
    assert!(answer.body == in_the_terminal(&request, &folder.path().join("a.png")));
}
