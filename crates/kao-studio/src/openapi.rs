//! The description of the interface (OpenAPI 3.1), made from the routes and from the fields of the
//! tasks.

use crate::tasks::{self, Field};
use serde_json::{Map, Value, json};

/// What is in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// JSON of this schema.
    Schema(&'static str),
    Png,
    Events,
    /// Bytes of a picture file.
    Picture,
}

/// One operation: a method at a path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    about: &'static str,
    parameters: Vec<Value>,
    takes: Option<Body>,
    pub answers: (u16, Body),
    pub failures: Vec<u16>,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, about: &'static str) -> Self {
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = in_path.map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
        Operation {
            method,
            path,
            about,
            parameters: parameters.collect(),
            takes: None,
            answers: (200, Body::Png),
            failures: Vec::new(),
        }
    }

    pub fn get(path: &'static str, about: &'static str) -> Self {
        Operation::new("get", path, about)
    }

    pub fn post(path: &'static str, about: &'static str) -> Self {
        Operation::new("post", path, about)
    }

    pub fn delete(path: &'static str, about: &'static str) -> Self {
        Operation::new("delete", path, about)
    }

    /// A parameter of the query.
    pub fn parameter(mut self, name: &str, kind: &str, about: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "description": about, "schema": { "type": kind },
        }));
        self
    }

    /// The fields of a task as parameters of the query.
    pub fn fields(mut self, fields: &[Field]) -> Self {
        let schema = tasks::schema(fields);
        for field in fields {
            self.parameters.push(json!({
                "name": field.name,
                "in": "query",
                "description": field.about,
                "schema": schema["properties"][field.name],
            }));
        }
        self
    }

    pub fn takes(mut self, body: Body) -> Self {
        self.takes = Some(body);
        self
    }

    pub fn answers(self, body: Body) -> Self {
        self.answers_with(200, body)
    }

    pub fn answers_with(mut self, status: u16, body: Body) -> Self {
        self.answers = (status, body);
        self
    }

    pub fn fails_with(mut self, statuses: &[u16]) -> Self {
        self.failures = statuses.to_vec();
        self
    }

    fn to_json(&self) -> Value {
        let (status, body) = self.answers;
        let mut answers = Map::new();
        let answer = json!({ "description": "done", "content": content(body) });
        answers.insert(status.to_string(), answer);
        for status in &self.failures {
            let failure = json!({
                "description": "not done, and why",
                "content": content(Body::Schema("Problem")),
            });
            answers.insert(status.to_string(), failure);
        }
        let mut operation = json!({
            "summary": self.about,
            "parameters": self.parameters,
            "responses": answers,
        });
        if let Some(body) = self.takes {
            operation["requestBody"] = json!({ "required": true, "content": content(body) });
        }
        operation
    }
}

fn content(body: Body) -> Value {
    match body {
        Body::Schema(name) => json!({
            "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } },
        }),
        Body::Png => json!({ "image/png": {} }),
        Body::Events => json!({ "text/event-stream": {} }),
        Body::Picture => json!({ "application/octet-stream": {} }),
    }
}

/// The document.
pub fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.to_json();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kao",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sampling and training of small diffusion models. A job gives the same \
                            bytes as the command line of the program `kao` that it names.",
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(of: &str) -> Value {
    json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "number" });
    let whole = json!({ "type": "integer" });
    let text_or_null = json!({ "type": ["string", "null"] });
    let any = json!({});
    let mut schemas = json!({
        "Problem": object(&["error"], json!({
            "error": object(&["code", "message"], json!({
                "code": text, "message": text, "field": text_or_null, "hint": text_or_null,
            })),
        })),
        "About": object(&["version", "samplers", "limits", "tasks"], json!({
            "version": text,
            "device": text,
            "has_runs": { "type": "boolean" },
            "has_data": { "type": "boolean" },
            "tasks": { "type": "array", "items": text },
            "samplers": { "type": "array", "items": object(&["name", "title", "settings"], json!({
                "name": text, "title": text, "about": text, "settings": { "type": "object" },
                "default_steps": whole,
            })) },
            "spacings": { "type": "array", "items": text },
            "limits": { "type": "object" },
        })),
        "Model": object(&["name"], json!({
            "name": text,
            "error": text,
            "image_size": { "type": "array", "items": whole },
            "parameters": whole,
            "timesteps": whole,
            "sampling": object(&["steps", "guidance", "spacing"], json!({
                "steps": { "type": ["integer", "null"] },
                "guidance": { "type": ["number", "null"] },
                "spacing": text,
            })),
            "tags": { "type": "array", "items": object(&["tag", "count"], json!({
                "tag": text, "count": whole,
            })) },
        })),
        "Models": object(&["models"], json!({ "models": list("Model") })),
        "Set": object(&["name", "count", "width", "height"], json!({
            "name": text, "count": whole, "channels": whole, "width": whole, "height": whole,
            "columns": whole, "commands": { "type": "array", "items": text },
        })),
        "Job": object(&["id", "kind", "state", "position", "command", "request"], json!({
            "id": text,
            "kind": text,
            "state": { "enum": ["waiting", "running", "done", "failed", "cancelled"] },
            "position": whole,
            "created": whole,
            "seconds": number,
            "estimated_seconds": number,
            "request": { "type": "object" },
            "command": text,
            "progress": { "type": "object" },
            "messages": { "type": "array", "items": text },
            "error": any,
            "result": { "description": "All of it when the job is done; before that what is there \
                                        already, where the kind of job hands it over.", "anyOf": [
                { "type": "null" },
                object(&["sets", "summary"], json!({
                    "sets": list("Set"), "facts": any, "summary": text,
                })),
            ] },
        })),
        "Jobs": object(&["jobs"], json!({ "jobs": list("Job") })),
    });
    let kinds = tasks::KINDS.iter().map(|kind| {
        json!({
            "type": "object",
            "description": kind.about,
            "required": ["kind"],
            "additionalProperties": false,
            "properties": {
                "kind": { "const": kind.name },
                "request": tasks::schema(kind.fields),
            },
        })
    });
    schemas["Run"] = object(
        &["name"],
        json!({
            "name": text,
            "error": text,
            "running": { "type": ["boolean", "null"] },
            "step": whole,
            "loss": { "type": "array", "items": { "type": "array", "items": number } },
            "validations": { "type": "array", "items": { "type": "object" } },
            "samples": { "type": "array", "items": whole },
        }),
    );
    schemas["Runs"] = object(&["runs"], json!({ "runs": list("Run") }));
    schemas["Folders"] = object(
        &["folders"],
        json!({
            "folders": { "type": "array", "items": object(&["name"], json!({
                "name": text, "is_prepared": { "type": "boolean" },
            })) },
        }),
    );
    schemas["Folder"] = object(
        &["name", "count", "pictures", "tags"],
        json!({
            "name": text,
            "count": whole,
            "chosen": whole,
            "pictures": { "type": "array", "items": object(&["name", "tags"], json!({
                "name": text, "tags": { "type": "array", "items": text },
            })) },
            "tags": { "type": "array", "items": object(&["tag", "count"], json!({
                "tag": text, "count": whole,
            })) },
            "report": { "type": ["object", "null"] },
        }),
    );
    schemas["Upload"] = object(
        &["id", "width", "height"],
        json!({
            "id": text, "width": whole, "height": whole,
        }),
    );
    schemas["NewJob"] = json!({ "oneOf": kinds.collect::<Vec<_>>() });
    schemas
}
