// Edit: a picture, cropped; a mask or strokes of colour on it; variations of it, before and after.

import { commandLine, duration, h, say, showProblem, slider } from "./dom.js";
import { imageUrl, newest, remove, run, server, upload } from "./api.js";
import { gallery, progressLine, standing } from "./faces.js";
import { randomSeed, samplingFields } from "./sampling.js";
import { view } from "./viewer.js";

/** The side of the picture that is worked on, in pixels. */
const SIDE = 512;

/** A picture that another page hands over: a blob, and what to do with it. */
let handed = null;

/** Opens this page with a picture; with a strength it makes variations at once. */
export function editPicture(blob, { strength = null } = {}) {
  handed = { blob, first: strength };
  if (location.hash === "#/edit") dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = "#/edit";
}

export async function edit(place) {
  const known = await server();
  const sampling = samplingFields(known);
  const { model, sampler, steps, eta, spacing } = sampling.fields;
  const strength = slider("Strength", { min: 0, max: 1, step: 0.05, value: 0.5, name: "strength", help: "0 keeps the picture, 1 leaves nothing of it" });
  const count = slider("Variations", { min: 1, max: 32, value: 8, name: "count" });
  const problems = h("div", {});
  const fields = { ...sampling.fields, strength, count, picture: strength };
  const input = h("input", { type: "file", accept: "image/*", class: "unseen", id: "picture-file", name: "picture", onchange: () => input.files[0] && take(input.files[0]) });
  const drop = h("label", { class: "drop", for: "picture-file" },
    h("b", {}, "Drop a picture here"), h("span", {}, "paste one, or choose a file"));
  const canvas = h("canvas", { width: SIDE, height: SIDE, class: "work", tabindex: 0, role: "application", "aria-label": "The picture. Drag to move it or to paint; or use the arrow keys, and the space key to paint." });
  const zoom = slider("Size", { min: 1, max: 4, step: 0.01, value: 1, name: "zoom" });
  const brush = slider("Brush", { min: 8, max: 160, value: 56, name: "brush" });
  const colour = h("input", { type: "color", value: "#d94f7a", "aria-label": "Colour of the strokes", name: "colour" });
  const modes = h("div", { class: "modes", role: "group", "aria-label": "What dragging does" });
  const clear = h("button", { type: "button", class: "quiet", onclick: () => { wipe(); draw(); } }, "Wipe");
  const tools = h("div", { class: "tools" }, modes, zoom, brush, h("div", { class: "choices" }, colour, clear));
  const board = h("div", { class: "board", hidden: true }, canvas, tools);
  const line = progressLine(() => current && remove(`/jobs/${current}`).catch(() => {}));
  const stage = h("div", {});
  const summary = h("p", { class: "summary" });
  const command = commandLine("");
  const vary = h("button", { type: "submit", class: "primary", disabled: true }, "Vary");
  const again = h("button", { type: "button", disabled: true, onclick: encode }, "Encode and reconstruct");
  const form = h("form", { class: "panel", "aria-label": "How to edit", onsubmit: (event) => { event.preventDefault(); make(); } },
    h("div", {}, drop, input), model, strength, count, steps, sampling.wishes,
    h("details", {}, h("summary", {}, "How"), sampler, eta, spacing), vary, again);
  place.append(form, h("section", { class: "canvas", "aria-label": "Picture and variations" }, problems, board, line.element, stage, summary, command));

  let picture = null;
  let mode = "move";
  let at = { x: 0, y: 0 };
  let current = null;
  const asking = newest();
  const mask = layer();
  const strokes = layer();
  let hasMask = false;
  let hasStrokes = false;

  for (const [name, text] of [["move", "Crop"], ["mask", "Mask"], ["paint", "Paint"]]) {
    modes.append(h("button", {
      type: "button", class: "chip", "aria-pressed": name === mode ? "true" : "false",
      "data-mode": name,
      onclick: () => {
        mode = name;
        for (const button of modes.children) button.setAttribute("aria-pressed", button.dataset.mode === mode ? "true" : "false");
        adapt();
        draw();
      },
    }, text));
  }

  function adapt() {
    zoom.hidden = mode !== "move";
    brush.hidden = mode === "move";
    colour.hidden = mode !== "paint";
    vary.textContent = hasMask ? "Fill the mask" : "Vary";
  }

  function layer() {
    return h("canvas", { width: SIDE, height: SIDE });
  }

  function wipe() {
    for (const one of [mask, strokes]) one.getContext("2d").clearRect(0, 0, SIDE, SIDE);
    hasMask = hasStrokes = false;
    adapt();
  }

  async function take(blob) {
    showProblem(null, fields, problems);
    try {
      picture = await createImageBitmap(blob);
    } catch {
      // The server reads more formats than browsers do.
      try {
        const { id } = await upload(blob);
        const answer = await fetch(`/api/v1/uploads/${id}`);
        picture = await createImageBitmap(await answer.blob());
      } catch (problem) {
        showProblem(problem, fields, problems);
        return;
      }
    }
    at = { x: 0, y: 0 };
    zoom.value = 1;
    wipe();
    board.hidden = false;
    vary.disabled = again.disabled = false;
    draw();
    say("The picture is there.");
  }

  /** Draws the part of the picture that was chosen. */
  function crop(context) {
    const scale = (SIDE / Math.min(picture.width, picture.height)) * zoom.value;
    const [width, height] = [picture.width * scale, picture.height * scale];
    const within = (value, size) => Math.max((SIDE - size) / 2, Math.min((size - SIDE) / 2, value));
    at = { x: within(at.x, width), y: within(at.y, height) };
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(picture, (SIDE - width) / 2 + at.x, (SIDE - height) / 2 + at.y, width, height);
  }

  function draw() {
    if (!picture) return;
    const context = canvas.getContext("2d");
    crop(context);
    context.drawImage(strokes, 0, 0);
    if (hasMask) {
      context.save();
      context.globalAlpha = 0.55;
      context.drawImage(mask, 0, 0);
      context.restore();
    }
    if (pen && mode !== "move") {
      for (const [style, width] of [["white", 5], ["black", 2]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.arc(pen.x, pen.y, brush.value / 2, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  let last = null;
  /** Where the keyboard paints, once it is used. */
  let pen = null;
  const place_ = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIDE, y: ((event.clientY - box.top) / box.height) * SIDE };
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pen = null;
    last = place_(event);
    dragged(last);
  });
  canvas.addEventListener("pointermove", (event) => last && dragged(place_(event)));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });

  function dragged(now) {
    if (mode === "move") {
      at = { x: at.x + now.x - last.x, y: at.y + now.y - last.y };
    } else {
      const context = (mode === "mask" ? mask : strokes).getContext("2d");
      context.strokeStyle = mode === "mask" ? "white" : colour.value;
      context.lineWidth = brush.value;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(last.x, last.y);
      context.lineTo(now.x, now.y + 0.01);
      context.stroke();
      if (mode === "mask") hasMask = true;
      else hasStrokes = true;
      adapt();
    }
    last = now;
    draw();
  }

  // The keyboard moves the picture; or a pen, which paints where the space key is pressed and, with
  // the shift key, wherever it goes.
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] }[event.key];
    const paints = event.key === " " || (step && event.shiftKey);
    if (!step && !(paints && mode !== "move")) return;
    event.preventDefault();
    if (mode === "move") {
      at = { x: at.x + step[0], y: at.y + step[1] };
      draw();
      return;
    }
    const from = pen ?? { x: SIDE / 2, y: SIDE / 2 };
    const within = (value) => Math.max(0, Math.min(SIDE, value));
    pen = step ? { x: within(from.x + step[0]), y: within(from.y + step[1]) } : from;
    if (paints) {
      last = from;
      dragged(pen);
      last = null;
    }
    draw();
  });
  canvas.addEventListener("blur", () => { if (pen) { pen = null; draw(); } });
  zoom.control.addEventListener("input", draw);

  const blobOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

  /** Sends the picture as it is on the board. */
  async function sent() {
    const whole = layer();
    const context = whole.getContext("2d");
    crop(context);
    context.drawImage(strokes, 0, 0);
    return (await upload(await blobOf(whole))).id;
  }

  async function sentMask() {
    const whole = layer();
    const context = whole.getContext("2d");
    context.fillStyle = "black";
    context.fillRect(0, 0, SIDE, SIDE);
    context.drawImage(mask, 0, 0);
    return (await upload(await blobOf(whole))).id;
  }

  async function work(kind, request, faces, finish, signal) {
    summary.textContent = "";
    command.say("");
    let job = null;
    let progress = null;
    const show = () => line.show(progress?.total ? progress.done / progress.total : 0, standing(job, progress, duration));
    try {
      const done = await run(kind, request, {
        onStart(started) { job = started; current = started.id; command.say(started.command); show(); },
        onJob(now) { job = now; show(); },
        onProgress(now) { progress = now; show(); },
        onPreview: (preview) => faces?.preview(preview),
      }, { signal });
      await finish(done);
      summary.textContent = done.result.summary;
      say(`Done: ${done.result.summary}`);
    } catch (problem) {
      faces?.stop();
      if (signal.aborted) return;
      if (problem.code === "cancelled") summary.textContent = "Cancelled.";
      else showProblem(problem, fields, problems);
    }
    if (current === job?.id) { current = null; line.hide(); }
  }

  async function make() {
    if (!picture) return;
    const signal = asking.next();
    showProblem(null, fields, problems);
    const request = { ...sampling.request(), strength: strength.value, count: count.value, seed: randomSeed() };
    try {
      request.picture = await sent();
      if (hasMask) request.mask = await sentMask();
    } catch (problem) {
      showProblem(problem, fields, problems);
      return;
    }
    if (signal.aborted) return;
    const [, height, width] = sampling.imageSize();
    let done = null;
    const faces = gallery(request.count, { width, height, label: (k) => `Variation ${k + 1}`, onOpen: open });
    stage.replaceChildren(faces.element);
    function open(k) {
      view(faces.cells.map((_, k) => ({
        src: imageUrl(done.id, "images", `${k}.png`),
        before: imageUrl(done.id, "original", "0.png"),
        title: `Variation ${k + 1}`,
        facts: done.result.summary,
        command: done.result.sets[0].commands[k],
      })), k, { actions: [["Edit this", (face) => fetch(face.src).then((answer) => answer.blob()).then((blob) => editPicture(blob))]] });
    }
    await work("edit", request, faces, async (job) => { done = job; await faces.finish(job); }, signal);
  }

  async function encode() {
    if (!picture) return;
    const signal = asking.next();
    showProblem(null, fields, problems);
    stage.replaceChildren();
    try {
      const request = { picture: await sent(), model: model.value };
      await work("encode", request, null, async (job) => {
        const of = (set, text) => h("figure", { class: "thumb" }, h("img", { src: imageUrl(job.id, set, "0.png"), alt: text }), h("figcaption", {}, text));
        stage.replaceChildren(h("div", { class: "thumbs three" }, of("original", "the picture"), of("noise", "its noise"), of("images", "reconstructed")));
      }, signal);
    } catch (problem) {
      showProblem(problem, fields, problems);
    }
  }

  const pasted = (event) => {
    const item = [...(event.clipboardData?.items ?? [])].find(({ type }) => type.startsWith("image/"));
    if (item) take(item.getAsFile());
  };
  const over = (event) => { event.preventDefault(); drop.classList.add("over"); };
  const left = () => drop.classList.remove("over");
  const dropped = (event) => {
    event.preventDefault();
    left();
    const file = [...(event.dataTransfer?.files ?? [])][0];
    if (file) take(file);
  };
  document.addEventListener("paste", pasted);
  place.addEventListener("dragover", over);
  place.addEventListener("dragleave", left);
  place.addEventListener("drop", dropped);
  again.hidden = !known.about.tasks.includes("encode");
  adapt();
  if (handed) {
    const { blob, first } = handed;
    handed = null;
    await take(blob);
    if (first !== null) { strength.value = first; make(); }
  }
  return () => {
    document.removeEventListener("paste", pasted);
    asking.end();
  };
}
