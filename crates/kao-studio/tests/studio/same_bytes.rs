//! A job gives the bytes that the same request gives in the terminal, which writes what the library
//! writes.

use super::Server;
use kao::control::Unattended;
use kao::requests::{Request, Sample};
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
