// Compare: samplers × steps × η from the same noise.

import { choice, duration, entry, h, say, slider } from "./dom.js";
import { get, imageUrl, run, server } from "./api.js";
import { gallery } from "./faces.js";
import { alone } from "./sampling.js";
import { view } from "./viewer.js";

/** The experiment of the DDIM paper (Song et al. 2021), table 1, as far as a CPU likes it. */
const PAPER = [0, 0.2, 0.5, 1].flatMap((eta) => [10, 20, 50, 100].map((steps) => ({ sampler: "ddim", eta, steps })));

export async function compare(place) {
  const { about, models } = await server();
  const model = choice("Model", models.map(({ name }) => [name, name]), { name: "model" });
  const seed = entry("Seed", { type: "number", min: 0, step: 1, value: 7, name: "seed" });
  const count = slider("Images each", { min: 1, max: 16, value: 4, name: "count" });
  const stepsList = entry("Steps", { value: "5, 10, 20", help: "separated by commas", name: "steps" });
  const etas = entry("η", { value: "0", help: "of samplers that have it", name: "etas" });
  const samplers = h("fieldset", { class: "field checks" }, h("legend", {}, "Samplers"),
    about.samplers.map(({ name, title }) => h("label", {},
      h("input", { type: "checkbox", value: name, name: "sampler", checked: ["ddim", "dpm++"].includes(name) }), title)));
  const folders = about.has_data ? (await get("/data")).folders : [];
  const data = choice("Distance from", [["", "nothing"], ...folders.map(({ name }) => [name, `the pictures in ${name}`])], { name: "data", help: "takes 64 more samples of each" });
  data.hidden = folders.length === 0;
  const table = h("div", { class: "runs" });
  const summary = h("p", { class: "summary" });
  const go = h("button", { type: "submit", class: "primary" }, "Compare");
  const paper = h("button", { type: "button", onclick: () => start(PAPER) }, "The DDIM paper's");
  const form = h("form", { class: "panel", "aria-label": "What to compare", onsubmit: (event) => { event.preventDefault(); start(chosen()); } },
    model, seed, count, samplers, stepsList, etas, data, go, paper);
  place.append(form, h("section", { class: "canvas", "aria-label": "Runs" }, summary, table));
  let visit = 0;

  const numbers = (text) => text.split(",").map((part) => Number(part.trim())).filter((n) => isFinite(n));

  function chosen() {
    const names = [...samplers.querySelectorAll("input:checked")].map(({ value }) => value);
    return names.flatMap((sampler) => {
      const settings = about.samplers.find(({ name }) => name === sampler).settings;
      const of = "eta" in settings ? numbers(etas.value) : [null];
      return of.flatMap((eta) => numbers(stepsList.value).map((steps) => ({ sampler, eta, steps })));
    });
  }

  async function start(runs) {
    const mine = ++visit;
    table.replaceChildren();
    summary.textContent = "";
    const title = (name) => about.samplers.find((sampler) => sampler.name === name).title;
    const [, height, width] = models.find(({ name }) => name === model.value).image_size;
    const rows = runs.map((one) => {
      const sampler = one.eta === null || one.eta === undefined ? { name: one.sampler } : { name: one.sampler, eta: one.eta };
      const request = { model: model.value, seed: seed.value ?? 0, count: count.value, steps: one.steps, sampler, columns: count.value };
      const words = `${title(one.sampler)}, ${one.steps} steps${one.eta ? `, η ${one.eta}` : ""}`;
      const time = h("span", { class: "time" }, "waits");
      let faces = [];
      const grid = gallery(request.count, { width, height, label: (k) => `${words}, image ${k}`, isSmall: true, onOpen: (k) => view(faces, k) });
      table.append(h("article", { class: "run" }, h("h3", {}, words), time, grid.element));
      return { request, words, time, grid, set: (found) => { faces = found; } };
    });
    for (const row of rows) {
      if (mine !== visit) return;
      row.time.textContent = "…";
      try {
        const job = await run("sample", row.request, { onPreview: (preview) => row.grid.preview(preview) });
        await row.grid.finish(job);
        const each = job.result.facts.seconds / row.request.count;
        row.time.textContent = `${duration(each)} an image`;
        if (data.value) {
          const { model, seed, steps, sampler } = row.request;
          row.time.textContent += ", measuring …";
          const { result } = await run("evaluate", { model, seed, steps, sampler, data: data.value });
          const { distance, floor } = result.facts;
          row.time.textContent = `${duration(each)} an image, distance ${distance.toFixed(0)} (floor ${floor.toFixed(0)})`;
        }
        row.set(row.grid.cells.map((_, k) => ({
          src: imageUrl(job.id, "images", `${k}.png`),
          title: `${row.words}, image ${k}`,
          facts: job.result.summary,
          command: job.result.sets[0].commands[k],
          request: alone(row.request, k),
        })));
      } catch (problem) {
        row.grid.stop();
        row.time.textContent = problem.message;
      }
    }
    if (mine === visit) {
      summary.textContent = `${rows.length} runs of ${count.value} images from the same noise.`;
      say("The comparison is done.");
    }
  }

  return () => { visit++; };
}
