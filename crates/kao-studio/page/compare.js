// Compare: samplers × steps × η from the same noise, as one job: pictures, cost, distance.

import { choice, commandLine, duration, entry, h, say, showProblem, slider } from "./dom.js";
import { get, imageUrl, newest, remove, run, server } from "./api.js";
import { chart, legend } from "./chart.js";
import { gallery, progressLine, standing } from "./faces.js";
import { view } from "./viewer.js";

/** The experiment of the DDIM paper (Song et al. 2021), table 1, as far as a CPU likes it. */
const PAPER = { samplers: ["ddim"], steps: [10, 20, 50, 100], etas: [0, 0.2, 0.5, 1] };

/** Images of a combination that are shown; distances are taken of all. */
const SHOWN = 16;

export async function compare(place) {
  const { about, models } = await server();
  const model = choice("Model", models.map(({ name }) => [name, name]), { name: "model" });
  const seed = entry("Seed", { type: "number", min: 0, step: 1, value: 7, name: "seed" });
  const count = slider("Images each", { min: 1, max: 256, value: 4, name: "count" });
  const by = choice("At equal", [["steps", "steps"], ["evaluations", "cost: evaluations of the network"]], { name: "by" });
  const numbers = entry("How many", { value: "5, 10, 20", help: "separated by commas", name: "steps" });
  const etas = entry("η", { value: "0", help: "of samplers that have it", name: "etas" });
  const samplers = h("fieldset", { class: "field checks" }, h("legend", {}, "Samplers"),
    about.samplers.map(({ name, title }) => h("label", {},
      h("input", { type: "checkbox", value: name, name: "sampler", checked: ["ddim", "dpm++"].includes(name) }), title)));
  const folders = about.has_data ? (await get("/data")).folders : [];
  const data = choice("Distance from", [["", "nothing"], ...folders.map(({ name }) => [name, `the pictures in ${name}`])], { name: "data", help: "wants 256 images each to be exact" });
  data.hidden = folders.length === 0;
  const fields = { model, seed, count, steps: numbers, evaluations: numbers, etas, data };
  const problems = h("div", {});
  const overview = h("div", {});
  const rows = h("div", { class: "runs" });
  const summary = h("p", { class: "summary" });
  const command = commandLine("");
  const line = progressLine(() => current && remove(`/jobs/${current}`).catch(() => {}));
  const go = h("button", { type: "submit", class: "primary" }, "Compare");
  const paper = h("button", { type: "button", onclick: () => start(PAPER) }, "The DDIM paper's");
  const form = h("form", { class: "panel", "aria-label": "What to compare", onsubmit: (event) => { event.preventDefault(); begin(); } },
    model, seed, count, samplers, by, numbers, etas, data, go, paper);
  place.append(form, h("section", { class: "canvas", "aria-label": "Combinations" }, problems, line.element, summary, command, overview, rows));
  const title = (name) => about.samplers.find((sampler) => sampler.name === name)?.title ?? name;
  let current = null;
  const asking = newest();

  function begin() {
    const names = [...samplers.querySelectorAll("input:checked")].map(({ value }) => value);
    const both = [[numbers, list(numbers)], [etas, list(etas)]];
    showProblem(null, fields, problems);
    for (const [field, found] of both) {
      if (found) continue;
      field.fail("expected numbers, separated by commas");
      field.control.focus();
      return;
    }
    start({ samplers: names, [by.value]: list(numbers), etas: list(etas) });
  }

  /** The numbers of a field; nothing where something else stands there. */
  function list(field) {
    const parts = field.value.split(",").map((part) => part.trim()).filter(Boolean).map(Number);
    return parts.every((n) => isFinite(n)) ? parts : null;
  }

  async function start(what) {
    const signal = asking.next();
    showProblem(null, fields, problems);
    for (const one of [overview, rows]) one.replaceChildren();
    summary.textContent = "";
    command.say("");
    const request = { ...what, model: model.value, seed: seed.value ?? 0, count: count.value };
    if (data.value) request.data = data.value;
    let job = null;
    let progress = null;
    let made = [];
    const show = () => {
      const share = progress?.total ? progress.done / progress.total : 0;
      const of = made.length && progress?.detail ? `${progress.detail.split(",")[0]} · ` : "";
      line.show(share, of + standing(job, progress, duration));
    };
    try {
      const done = await run("compare", request, {
        onStart(started) {
          job = started;
          current = started.id;
          command.say(started.command);
          show();
          line.element.scrollIntoView({ block: "nearest" });
          say("Comparing.");
        },
        onJob(now) { job = now; show(); },
        onProgress(now) { progress = now; show(); },
        onPreview: (preview) => made[preview.set]?.grid.preview(preview),
        onResult({ sets, facts }) {
          if (made.length === 0) made = facts.planned.map((one) => row(one, request, () => job.id));
          rows.append(...made.map(({ element }) => element).filter((element) => !element.isConnected));
          for (const set of sets) {
            const at = facts.comparisons.findIndex(({ name }) => name === set.name);
            made[at]?.finish(set, facts.comparisons[at]);
          }
          tell(facts.comparisons);
        },
      }, { signal });
      await Promise.all(made.map(({ finished }) => finished));
      summary.textContent = `${done.result.summary}, ${duration(done.seconds)}`;
      say(`Done: ${done.result.summary}`);
    } catch (problem) {
      for (const one of made) one.grid.stop();
      if (signal.aborted) return;
      if (problem.code === "cancelled") summary.textContent = "Cancelled.";
      else showProblem(problem, fields, problems);
    }
    if (current === job?.id) { current = null; line.hide(); }
  }

  /** One combination: its images as they form, and what they cost. */
  function row(planned, request, id) {
    const { sampler, eta, steps, evaluations } = planned;
    const words = `${title(sampler)}, ${steps} steps${eta ? `, η ${eta}` : ""}`;
    const facts = h("span", { class: "time" }, `${evaluations} evaluations`);
    const shown = Math.min(request.count, SHOWN);
    const [, height, width] = models.find(({ name }) => name === request.model).image_size;
    let faces = [];
    const grid = gallery(shown, { width, height, label: (k) => `${words}, image ${k}`, isSmall: true, onOpen: (k) => view(faces, k) });
    const element = h("article", { class: "run", id: planned.name, tabindex: -1 }, h("h3", {}, words), facts, grid.element);
    const made = { element, grid, finished: null };
    made.finish = (set, of) => {
      const distance = of.distance === null ? "" : `, distance ${of.distance.toFixed(1)} (${of.ratio.toFixed(2)} × the floor)`;
      facts.textContent = `${evaluations} evaluations, ${duration(of.seconds_per_image)} an image${distance}`;
      const alone = { model: request.model, seed: request.seed, steps, spacing: "trailing", sampler: eta === null ? sampler : { name: sampler, eta }, guidance: 1 };
      faces = grid.cells.map((_, k) => ({
        src: imageUrl(id(), set.name, `${k}.png`),
        title: `${words}, image ${k}`,
        facts: `Seed ${request.seed}, ${facts.textContent}`,
        command: set.commands[k],
        request: { ...alone, pick: [k] },
      }));
      made.finished = grid.finish({ id: id() }, set.name);
    };
    return made;
  }

  /** The numbers of what is made, as a table and, with distances, as a chart. */
  function tell(comparisons) {
    if (comparisons.length === 0) return;
    const isMeasured = comparisons.some(({ distance }) => distance !== null);
    const method = ({ sampler, eta }) => `${title(sampler)}${eta ? ` η ${eta}` : ""}`;
    const nearest = (one) => comparisons.every(({ evaluations, distance }) => evaluations > one.evaluations || distance >= one.distance);
    const head = ["Sampler", "Steps", "Evaluations", "Per image", ...(isMeasured ? ["Distance", "× floor"] : [])];
    const table = h("table", { class: "numbers" },
      h("caption", { class: "unseen" }, "Combinations"),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, comparisons.map((one) => h("tr", {},
        h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => document.getElementById(one.name)?.focus() }, method(one))),
        h("td", {}, one.steps), h("td", {}, one.evaluations), h("td", {}, duration(one.seconds_per_image)),
        ...(isMeasured ? [
          h("td", {}, one.distance.toFixed(1)),
          h("td", { class: nearest(one) ? "best" : null }, one.ratio.toFixed(2), nearest(one) ? h("span", { class: "unseen" }, ", none as cheap is nearer") : null),
        ] : [])))));
    const methods = [...new Set(comparisons.map(method))];
    const curves = methods.map((name, k) => ({
      name, colour: (k % 5) + 1, marked: true,
      points: comparisons.filter((one) => method(one) === name).map(({ evaluations, distance }) => [evaluations, distance]).sort(([a], [b]) => a - b),
    }));
    const figure = isMeasured && h("figure", { class: "figure" }, h("figcaption", {}, "Distance over evaluations of the network"),
      chart(curves, { title: "Distance over evaluations of the network", log: true, height: 220 }), legend(curves));
    overview.replaceChildren(...[h("div", { class: "scroll" }, table), figure].filter(Boolean));
  }

  return () => asking.end();
}
