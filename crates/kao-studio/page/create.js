// Create: a model, a seed, some choices; images appear as they form.

import { commandLine, duration, entry, h, say, showProblem, slider } from "./dom.js";
import { imageUrl, newest, remove, run, server } from "./api.js";
import { editPicture } from "./edit.js";
import { gallery, progressLine, standing } from "./faces.js";
import { alone, randomSeed, samplingFields } from "./sampling.js";
import { view } from "./viewer.js";

/** What was chosen, kept while the page is open. */
let kept = { seed: 7, count: 16 };

/** With a model, that one is chosen, and all else as it has it. */
export async function create(place, [ofModel]) {
  const known = await server();
  if (ofModel !== undefined) kept = { seed: kept.seed, count: kept.count, model: ofModel };
  const sampling = samplingFields(known, kept);
  const { model, sampler, steps, eta, spacing } = sampling.fields;
  const seed = entry("Seed", { type: "number", min: 0, step: 1, value: kept.seed, name: "seed" });
  const dice = h("button", { type: "button", class: "quiet dice", "aria-label": "Another seed", title: "Another seed", onclick: () => { seed.value = randomSeed(); make(); } }, "⚄");
  const count = slider("Images", { min: 1, max: 64, value: kept.count, name: "count" });
  const fields = { ...sampling.fields, seed, count, model };
  const problems = h("div", {});
  const stage = h("div", { class: "stage" });
  const line = progressLine(() => current && remove(`/jobs/${current.id}`).catch(() => {}));
  const command = commandLine("");
  const summary = h("p", { class: "summary" });
  const button = h("button", { type: "submit", class: "primary" }, "Make faces");
  const form = h("form", { class: "panel", "aria-label": "What to make", onsubmit: (event) => { event.preventDefault(); make(); } },
    model, h("div", { class: "seed" }, seed, dice), count, steps, sampling.wishes,
    h("details", {}, h("summary", {}, "How"), sampler, eta, spacing), button);
  let current = null;
  const asking = newest();

  place.append(form, h("section", { class: "canvas", "aria-label": "Images" }, problems, stage, line.element, summary, command));

  async function make() {
    const signal = asking.next();
    kept = { ...sampling.state(), seed: seed.value, count: count.value };
    showProblem(null, fields, problems);
    const request = { ...sampling.request(), seed: seed.value ?? 0, count: count.value };
    const [, height, width] = sampling.imageSize();
    const faces = gallery(request.count, {
      width, height, label: (k) => `Face ${k + 1} of seed ${request.seed}`, onOpen: (k) => open(k),
    });
    let done = null;

    function open(index) {
      const commands = done.result.sets[0].commands;
      view(faces.cells.map((_, k) => ({
        src: imageUrl(done.id, "images", `${k}.png`),
        title: `Seed ${request.seed}, image ${k}`,
        facts: done.result.summary,
        command: commands[k] ?? done.command,
        request: alone(request, k),
      })), index, { actions: actions() });
    }

    summary.textContent = "";
    command.say("");
    let job = null;
    let progress = null;
    const show = () => line.show(progress?.total ? progress.done / progress.total : 0, standing(job, progress, duration));
    try {
      done = await run("sample", request, {
        onStart(started) {
          job = current = started;
          stage.replaceChildren(faces.element);
          command.say(started.command);
          show();
          say(`Making ${request.count} images.`);
        },
        onJob(now) { job = now; show(); },
        onProgress(now) { progress = now; show(); },
        onPreview: (preview) => faces.preview(preview),
      }, { signal });
      await faces.finish(done);
      summary.textContent = done.result.summary;
      say(`Done: ${done.result.summary}`);
    } catch (problem) {
      faces.stop();
      if (signal.aborted) return;
      if (problem.code !== "cancelled") showProblem(problem, fields, problems);
      else { summary.textContent = "Cancelled."; say("Cancelled."); }
    }
    if (current?.id === job?.id) {
      current = null;
      line.hide();
    }
  }

  /** Where one can go from a face. */
  function actions() {
    const edit = (face, options) => fetch(face.src).then((answer) => answer.blob()).then((blob) => editPicture(blob, options));
    const can = known.about.tasks.includes("edit");
    return [
      can && ["Variations", (face) => edit(face, { strength: 0.45 })],
      can && ["More like this", (face) => edit(face, { strength: 0.75 })],
      can && ["Edit", (face) => edit(face)],
      known.about.has_data && ["Nearest pictures", ({ request: { model, seed, pick, ...others } }) => {
        location.hash = `#/data/${encodeURIComponent(model)}/${seed}/${pick[0]}/${encodeURIComponent(JSON.stringify(others))}`;
      }],
    ].filter(Boolean);
  }

  make();
  return () => asking.end();
}
