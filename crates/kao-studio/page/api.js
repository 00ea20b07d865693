// The HTTP interface, as this page uses it.

const ROOT = "/api/v1";

/** What the server says when something is wrong. */
export class Problem extends Error {
  constructor({ code, message, field, hint }, retryAfter) {
    super(message);
    Object.assign(this, { code, field, hint, retryAfter });
  }
}

async function call(method, path, body, type) {
  let answer;
  try {
    const headers = body === undefined ? {} : { "content-type": type ?? "application/json" };
    const sent = body === undefined || type ? body : JSON.stringify(body);
    answer = await fetch(ROOT + path, { method, headers, body: sent });
  } catch {
    throw new Problem({ code: "away", message: "The server does not answer", hint: "Is `kao studio` still running?" });
  }
  const value = await answer.json().catch(() => ({}));
  if (answer.ok) return value;
  const retryAfter = Number(answer.headers.get("retry-after")) || null;
  throw new Problem(value.error ?? { code: "failed", message: `The server answered ${answer.status}` }, retryAfter);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);
export const upload = (blob) => call("POST", "/uploads", blob, blob.type || "application/octet-stream");

export const imageUrl = (id, set, name) => `${ROOT}/jobs/${id}/${set}/${name}`;

const cancelled = () => new Problem({ code: "cancelled", message: "Cancelled" });

/**
 * Follows a job to its end. With `cancel`, leaving the page ends the job, and so does aborting `signal`,
 * which ends the following in any case: browsers have few connections to a server.
 */
export function follow(id, { onJob, onProgress, onPreview, onMessage, onResult } = {}, { cancel = false, signal } = {}) {
  const source = new EventSource(`${ROOT}/jobs/${id}/events${cancel ? "?cancel=true" : ""}`);
  const ended = new Promise((resolve, reject) => {
    const read = (name, handler) => source.addEventListener(name, (event) => {
      if (event.data) handler(JSON.parse(event.data));
    });
    read("job", (job) => {
      onJob?.(job);
      if (["done", "failed", "cancelled"].includes(job.state)) {
        source.close();
        if (job.state === "done") resolve(job);
        else if (job.state === "cancelled") reject(cancelled());
        else reject(new Problem(job.error ?? { code: "failed", message: "The job failed" }));
      }
    });
    read("progress", (progress) => onProgress?.(progress));
    read("result", (result) => onResult?.(result));
    read("preview", (preview) => onPreview?.(preview));
    read("message", (message) => onMessage?.(message.text));
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      reject(new Problem({ code: "away", message: "The connection to the server was lost" }));
    });
    signal?.addEventListener("abort", () => { source.close(); reject(cancelled()); });
  });
  return ended;
}

/** Asks for work and follows it. `onStart` gets the job as soon as there is one. Aborting `signal` ends it. */
export async function run(kind, request, handlers = {}, { signal } = {}) {
  const job = await post("/jobs", { kind, request });
  if (signal?.aborted) {
    remove(`/jobs/${job.id}`).catch(() => {});
    throw cancelled();
  }
  handlers.onStart?.(job);
  return follow(job.id, handlers, { cancel: true, signal });
}

/** Signals for work of which only the newest is wanted: each ends that before it. */
export function newest() {
  let controller = new AbortController();
  return {
    next() {
      controller.abort();
      controller = new AbortController();
      return controller.signal;
    },
    end: () => controller.abort(),
  };
}

/** The pictures of a preview, one below the other in one image. */
export async function previewBitmap(preview) {
  const bytes = Uint8Array.from(atob(preview.png), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/png" }));
}

let known = null;

/** What the server has, and its models; asked for once. */
export function server() {
  known ??= Promise.all([get("/about"), get("/models")])
    .then(([about, { models }]) => ({ about, models: models.filter((model) => !model.error) }))
    .catch((problem) => { known = null; throw problem; });
  return known;
}

/** Forgets what is known of the models, which a training may have changed. */
export function forget() {
  known = null;
}
