// One face, large: the process under a slider, what makes it, and where to go from it.

import { commandLine, h, say, slider } from "./dom.js";
import { imageUrl, newest, run } from "./api.js";

let open = null;

/** Closes the large view, if one is open. */
export function close() {
  open?.close();
}

/**
 * Opens a large view. `faces` are { src, title, command, request, kind }; `request` makes the face
 * alone, so that snapshots of it can be asked for. `actions` are [text, function(face, index)].
 */
export function view(faces, index, { actions = [] } = {}) {
  close();
  const picture = h("img", { class: "large", alt: "" });
  const title = h("h2", {});
  const facts = h("p", { class: "facts" });
  const command = commandLine("");
  const process = h("div", { class: "process" });
  const before = h("button", {
    type: "button", "aria-pressed": "false",
    onclick: () => {
      const isBefore = before.getAttribute("aria-pressed") !== "true";
      before.setAttribute("aria-pressed", isBefore ? "true" : "false");
      before.textContent = isBefore ? "After" : "Before";
      picture.src = isBefore ? faces[index].before : faces[index].src;
    },
  }, "Before");
  const download = h("a", { class: "button", download: "" }, "Download");
  const buttons = h("div", { class: "actions" }, before, download,
    actions.map(([text, act]) => h("button", {
      type: "button", onclick: () => { dialog.close(); act(faces[index], index); },
    }, text)));
  const dialog = h("dialog", { class: "viewer", "aria-label": "One image, large" },
    h("div", { class: "viewer-picture" }, picture),
    h("div", { class: "viewer-side" },
      h("div", { class: "viewer-head" }, title,
        h("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
      facts, process, buttons, command,
      h("div", { class: "unseen live", role: "status", "aria-live": "polite" }),
      h("p", { class: "steps" },
        h("button", { type: "button", class: "quiet", "aria-label": "The image before", onclick: () => step(-1) }, "←"),
        h("button", { type: "button", class: "quiet", "aria-label": "The next image", onclick: () => step(1) }, "→"))));
  const opener = document.activeElement;
  const asking = newest();

  async function show() {
    const face = faces[index];
    const signal = asking.next();
    picture.src = face.src;
    picture.alt = face.title;
    title.textContent = face.title;
    facts.textContent = face.facts ?? "";
    command.say(face.command ?? "");
    download.href = face.src;
    download.download = `${face.title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.png`;
    say(face.title);
    before.hidden = !face.before;
    before.textContent = "Before";
    before.setAttribute("aria-pressed", "false");
    process.replaceChildren();
    if (!face.request) return;
    const wait = h("p", { class: "wait" }, "Asking for snapshots of the process …");
    process.append(wait);
    try {
      const job = await run("sample", { ...face.request, snapshots: 21 }, {}, { signal });
      if (signal.aborted) return;
      facts.textContent = job.result.summary;
      // This job made the image alone: its file is the one that the command line writes.
      download.href = imageUrl(job.id, "images", "grid.png");
      const frames = job.result.sets.filter(({ name }) => name.startsWith("snapshot-"));
      const images = frames.map(({ name }) => h("img", { src: imageUrl(job.id, name, "0.png"), alt: "" }));
      await Promise.all(images.map((image) => image.decode().catch(() => {})));
      if (signal.aborted) return;
      const last = frames.length - 1;
      const range = slider("From noise to image", { min: 0, max: last, value: last, name: "process" });
      range.control.setAttribute("aria-valuetext", "the image");
      range.control.addEventListener("input", () => {
        const at = range.value;
        picture.src = at === last ? face.src : images[at].src;
        range.control.setAttribute("aria-valuetext", at === 0 ? "noise" : `snapshot ${at} of ${last}`);
      });
      wait.replaceWith(range);
    } catch (problem) {
      if (!signal.aborted) wait.textContent = problem.message;
    }
  }

  function step(by) {
    index = (index + by + faces.length) % faces.length;
    show();
  }

  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input, code")) return;
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    asking.end();
    dialog.remove();
    open = null;
    opener?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  open = dialog;
  show();
}
