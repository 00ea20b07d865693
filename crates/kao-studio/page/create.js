// Create: a model, a seed, some choices; images appear as they form.

import { choice, commandLine, duration, entry, h, say, showProblem, slider } from "./dom.js";
import { imageUrl, remove, run, server } from "./api.js";
import { gallery, progressLine, standing } from "./faces.js";
import { view } from "./viewer.js";

/** What was chosen, kept while the page is open. */
let kept = { seed: 7, count: 16 };

/** The fields that all pages share which sample: method, steps, η, tags. */
export function samplingFields({ about, models }, kept = {}) {
  const model = choice("Model", models.map(({ name }) => [name, name]), { value: kept.model, name: "model" });
  const sampler = choice("Sampler", about.samplers.map(({ name, title }) => [name, title]), { value: kept.sampler ?? "dpm++", name: "sampler" });
  const steps = slider("Steps", { min: 1, max: 100, value: kept.steps ?? 20, name: "steps" });
  const eta = slider("Noise of the steps, η", { min: 0, max: 1, step: 0.05, value: kept.eta ?? 0, name: "eta" });
  const spacing = choice("Timesteps", about.spacings.map((name) => [name, name]), { value: kept.spacing ?? "trailing", name: "spacing" });
  const tags = entry("Tags", { value: kept.tags, help: "separated by commas", name: "tags", list: "known-tags" });
  const avoid = entry("Rather not", { value: kept.avoid, name: "avoid", list: "known-tags" });
  const guidance = slider("Guidance", { min: 1, max: 6, step: 0.25, value: kept.guidance ?? 2, name: "guidance" });
  const list = h("datalist", { id: "known-tags" });
  const chips = h("div", { class: "chips" });
  const wishes = h("div", { class: "wishes" }, tags, chips, avoid, guidance, list);

  function adapt() {
    const chosen = about.samplers.find(({ name }) => name === sampler.value);
    eta.hidden = !("eta" in (chosen?.settings ?? {}));
    const known = models.find(({ name }) => name === model.value)?.tags ?? [];
    wishes.hidden = known.length === 0;
    list.replaceChildren(...known.map(({ tag }) => h("option", { value: tag })));
    chips.replaceChildren(...known.slice(0, 24).map(({ tag }) => h("button", {
      type: "button", class: "chip", "aria-pressed": parts(tags.value).includes(tag) ? "true" : "false",
      onclick: (event) => {
        const now = parts(tags.value);
        tags.value = (now.includes(tag) ? now.filter((other) => other !== tag) : [...now, tag]).join(", ");
        event.currentTarget.setAttribute("aria-pressed", parts(tags.value).includes(tag) ? "true" : "false");
      },
    }, tag)));
  }
  const parts = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
  model.control.addEventListener("change", adapt);
  sampler.control.addEventListener("change", adapt);
  adapt();

  return {
    fields: { model, sampler, steps, eta, spacing, tags, avoid, guidance },
    wishes,
    imageSize: () => models.find(({ name }) => name === model.value)?.image_size ?? [3, 64, 64],
    /** As a request; what is as by default is left out. */
    request() {
      const request = { model: model.value, steps: steps.value };
      const settings = {};
      if (!eta.hidden && eta.value > 0) settings.eta = eta.value;
      if (sampler.value !== "dpm++" || settings.eta) request.sampler = { name: sampler.value, ...settings };
      if (spacing.value !== "trailing") request.spacing = spacing.value;
      if (!wishes.hidden) {
        if (tags.value) request.tags = tags.value;
        if (avoid.value) request.avoid = avoid.value;
        if (tags.value || avoid.value) request.guidance = guidance.value;
      }
      return request;
    },
    state: () => ({
      model: model.value, sampler: sampler.value, steps: steps.value, eta: eta.value,
      spacing: spacing.value, tags: tags.value, avoid: avoid.value, guidance: guidance.value,
    }),
  };
}

/** The request that makes image `number` of a request alone. */
export function alone({ first, count, columns, ...request }, number) {
  return { ...request, pick: [number] };
}

export const randomSeed = () => Math.floor(Math.random() * 1_000_000);

export async function create(place) {
  const known = await server();
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

  place.append(form, h("section", { class: "canvas", "aria-label": "Images" }, problems, stage, line.element, summary, command));

  async function make() {
    const before = current;
    current = null;
    if (before) await remove(`/jobs/${before.id}`).catch(() => {});
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
      })), index, { actions: actions(request) });
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
      });
      await faces.finish(done);
      summary.textContent = done.result.summary;
      say(`Done: ${done.result.summary}`);
    } catch (problem) {
      faces.stop();
      if (problem.code !== "cancelled") showProblem(problem, fields, problems);
      else if (current?.id === job?.id) { summary.textContent = "Cancelled."; say("Cancelled."); }
    }
    if (current?.id === job?.id) {
      current = null;
      line.hide();
    }
  }

  /** Where one can go from a face. */
  function actions() {
    return [["More seeds", () => { seed.value = randomSeed(); make(); }]];
  }

  make();
  return () => { if (current) remove(`/jobs/${current.id}`).catch(() => {}); };
}
