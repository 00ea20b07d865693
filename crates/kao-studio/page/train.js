// Train: runs as they go, their losses and samples; and a form that begins one.

import { choice, commandLine, count, duration, entry, h, say, showProblem, slider } from "./dom.js";
import { get, post, remove, run as runJob, server } from "./api.js";
import { chart, legend } from "./chart.js";

/** How often a run is looked at while its page is open, in milliseconds. */
const PAUSE = 2000;

export async function train(place, [name]) {
  const { about } = await server();
  if (!about.has_runs) {
    place.append(h("p", { class: "notice" }, "No folder of runs was given. Start with ", h("code", {}, "kao studio --runs DIR --data DIR"), " to watch runs and to begin them here."));
    return undefined;
  }
  // No run can be called so.
  return name === "+" ? begin(place) : watch(place, name);
}

async function watch(place, chosen) {
  const list = h("nav", { class: "panel list", "aria-label": "Runs" });
  const view = h("section", { class: "canvas", "aria-label": "Run" });
  place.append(list, view);
  let stopped = false;
  let timer = null;
  let log = true;
  let other = "";
  let step = null;
  let follows = true;
  let shown = null;
  let listed = null;

  async function refresh() {
    const [{ runs }, { jobs }] = await Promise.all([get("/runs"), get("/jobs")]);
    if (stopped) return;
    const trainings = jobs.filter((job) => job.kind === "train" && ["running", "waiting"].includes(job.state));
    const name = chosen ?? runs.find(({ running }) => running)?.name ?? runs.find(({ error }) => !error)?.name;
    const items = runs.map((run) => [run.name, standing(run), run.name === name]);
    if (JSON.stringify(items) !== listed) {
      listed = JSON.stringify(items);
      const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      list.replaceChildren(
        h("a", { class: "button primary", href: "#/train/+" }, "New run"),
        ...items.map(([name, words, isChosen]) => h("a", {
          class: "item", href: `#/train/${encodeURIComponent(name)}`, "aria-current": isChosen ? "page" : null,
        }, h("b", {}, name), h("small", {}, words))));
      if (focused) [...list.children].find((item) => item.getAttribute("href") === focused)?.focus();
    }
    if (!name) {
      view.replaceChildren(h("p", { class: "notice" }, "No run yet. A first one takes minutes with the preset tiny."));
      return;
    }
    const ofRun = trainings.filter((job) => job.request.name === name);
    const training = ofRun.find((job) => job.state === "running") ?? ofRun[0];
    const found = runs.find((run) => run.name === name);
    if (!found || found.error) {
      const words = training ? `${name} is about to begin …` : found ? `${name}: ${found.error}` : `There is no run ${name}.`;
      view.replaceChildren(h("p", { class: "notice" }, words), ...(training?.messages ?? []).map((text) => h("p", { class: "wait" }, text)));
      return;
    }
    const [run, compared] = await Promise.all([
      get(`/runs/${encodeURIComponent(name)}`),
      other && other !== name ? get(`/runs/${encodeURIComponent(other)}`).catch(() => null) : null,
    ]);
    // What has not changed stays as it is, for those who read it or point at it.
    const now = JSON.stringify([run, compared, runs.map((one) => [one.name, one.error]), training?.state, training?.messages, log, other]);
    if (!stopped && (now !== shown || !view.querySelector("h2")) && show(run, compared, runs, training)) shown = now;
  }

  function standing(run) {
    if (run.error) return run.error;
    const share = run.total_steps ? ` of ${count(run.total_steps)}` : "";
    const left = run.running && run.seconds_left !== null ? `, ${duration(run.seconds_left)} left` : "";
    return `${run.running ? "training, " : ""}step ${count(run.step)}${share}${left}`;
  }

  /** Whether it is shown: what somebody is using stays as it is. */
  function show(run, compared, runs, job) {
    if (view.contains(document.activeElement) && document.activeElement.matches("select, input[type=range]:active")) return false;
    const focused = view.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const stop = job && h("button", { type: "button", "data-key": "stop", onclick: async () => { await remove(`/jobs/${job.id}`); say("The run is saved and stops."); await refresh(); } }, job.state === "waiting" ? "Leave the queue" : "Stop and save");
    const isUnfinished = !run.running && run.has_checkpoint && run.step < (run.total_steps ?? 0);
    const resume = !job && isUnfinished && h("button", { type: "button", class: "primary", "data-key": "resume", onclick: async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      try {
        await post("/jobs", { kind: "train", request: { name: run.name, resume: true } });
        await refresh();
      } catch (problem) {
        notes.append(h("p", { class: "notice bad", role: "alert" }, problem.message));
        button.disabled = false;
      }
    } }, "Go on");
    const use = run.has_model && h("a", { class: "button", "data-key": "use", href: `#/create/${encodeURIComponent(`run:${run.name}`)}` }, "Make images with it");
    const notes = h("div", {}, run.problems.map((problem) => h("p", { class: "notice bad" }, problem)));
    const messages = job?.messages?.slice(-3).map((text) => h("p", { class: "wait" }, text)) ?? [];
    const best = run.best_validation_loss;
    const facts = h("dl", { class: "facts-list" },
      fact("Step", `${count(run.step)}${run.total_steps ? ` of ${count(run.total_steps)}` : ""}`),
      fact("Time left", run.running ? duration(run.seconds_left) : "–"),
      fact("Pictures a second", run.images_per_second ? run.images_per_second.toFixed(0) : "–"),
      fact("Validation loss", run.validation_loss ? run.validation_loss.toPrecision(4) : "–"),
      fact("Best", best ? best.toPrecision(4) : "–"),
      run.trend ? fact("It is", run.trend.direction) : null);
    view.replaceChildren(
      h("div", { class: "head" }, h("h2", {}, run.name), h("div", { class: "actions" }, stop, resume, use)),
      notes, ...messages, facts,
      h("div", { class: "split" }, h("div", {}, curves(run, compared, runs)), h("div", {}, samples(run))));
    if (focused) view.querySelector(`[data-key="${focused}"]`)?.focus();
    return true;
  }

  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

  function samples(run) {
    if (run.samples.length === 0) return [];
    const last = run.samples.length - 1;
    const at = follows || step === null ? last : Math.max(0, run.samples.findLastIndex((one) => one <= step));
    const url = (at) => `/api/v1/runs/${encodeURIComponent(run.name)}/samples/${run.samples[at]}.png`;
    const image = h("img", { class: "samples", src: url(at), alt: `Sample grid of step ${run.samples[at]}` });
    const range = slider("Samples over time", { min: 0, max: last, value: at, name: "samples" });
    const output = range.querySelector("output");
    const words = () => { output.textContent = `step ${count(run.samples[range.value])}`; };
    range.control.dataset.key = "samples";
    range.control.addEventListener("input", () => {
      image.src = url(range.value);
      image.alt = `Sample grid of step ${run.samples[range.value]}`;
      step = run.samples[range.value];
      follows = range.value === last;
      words();
    });
    words();
    return [h("figure", { class: "grid-over-time" }, image, range)];
  }

  function curves(run, compared, runs) {
    const of = (run, first, name) => [
      { name: `${name}training`, points: run.loss, colour: first, faint: true },
      { name: `${name}validation`, points: run.validations.map((at) => [at.step, at.validation_loss]), colour: first, marked: true },
    ];
    const both = [...of(run, 1, compared ? `${run.name} ` : ""), ...(compared ? of(compared, 2, `${compared.name} `) : [])];
    const scale = h("label", { class: "check" }, h("input", { type: "checkbox", checked: log, "data-key": "log", onchange: (event) => { log = event.target.checked; refresh(); } }), "logarithmic");
    const second = choice("Beside it", [["", "nothing"], ...runs.filter(({ name, error }) => name !== run.name && !error).map(({ name }) => [name, name])], { value: other, name: "beside" });
    second.control.addEventListener("change", () => { other = second.value; second.control.blur(); refresh(); });
    const ranges = run.validations.at(-1)?.validation_by_t ?? [];
    const levels = ranges.map(({ from, to }, k) => ({
      name: `t ${from}–${to - 1}`, colour: (k % 5) + 1, marked: true,
      points: run.validations.flatMap((at) => (at.validation_by_t ?? []).filter((one) => one.from === from && one.to === to).map((one) => [at.step, one.loss])),
    }));
    const figure = (title, curves, options) => h("figure", { class: "figure" }, h("figcaption", {}, title), chart(curves, { title, ...options }), legend(curves));
    return [
      h("div", { class: "choices" }, scale, runs.length > 1 ? second : null),
      figure("Loss over the steps", both, { log }),
      levels.length ? figure("Validation loss by noise level", levels, { log, height: 200 }) : null,
      figure("Learning rate", [{ name: "learning rate", points: run.learning_rate, colour: 4 }], { height: 140 }),
      figure("Pictures a second", [{ name: "pictures a second", points: run.images_per_second_curve, colour: 3 }], { height: 140 }),
    ].filter(Boolean);
  }

  async function again() {
    try {
      await refresh();
    } catch (problem) {
      if (!stopped && problem.code !== undefined) view.replaceChildren(h("p", { class: "notice bad", role: "alert" }, problem.message));
      else if (problem.code === undefined) throw problem;
    }
    if (!stopped) timer = setTimeout(again, PAUSE);
  }
  await again();
  return () => { stopped = true; clearTimeout(timer); };
}

async function begin(place) {
  const { models } = await server();
  const { folders } = await get("/data").catch(() => ({ folders: [] }));
  if (folders.length === 0) {
    place.append(h("p", { class: "notice" }, "No pictures to train on. ", h("code", {}, "kao draw --count 2000 --out pictures/faces"), " draws some, and ", h("code", {}, "kao studio --data pictures"), " shows them here."));
    return undefined;
  }
  const data = choice("Pictures", folders.map(({ name }) => [name, name]), { name: "data" });
  const name = entry("Name of the run", { value: `${folders[0].name}-1`, name: "name", help: "letters, digits, . - _" });
  const preset = choice("Size", [["", "what fits the pictures"], ["tiny", "tiny: 32 × 32, minutes"], ["small64", "small64: 64 × 64, hours"], ["anime64", "anime64: 64 × 64, weeks"]], { name: "preset" });
  const from = choice("Begin with", [["", "random weights"], ...models.map(({ name }) => [name, `the model ${name}`])], { name: "from", help: "a model brings its own size" });
  const steps = entry("Steps", { type: "number", min: 1, name: "steps", help: "empty: as many as the preset has" });
  const batch = entry("Pictures a step", { type: "number", min: 1, name: "batch_size" });
  const rate = entry("Learning rate", { type: "number", min: 0, step: "any", name: "learning_rate" });
  const every = entry("Steps between saves", { type: "number", min: 1, name: "save_every" });
  const seed = entry("Seed", { type: "number", min: 0, name: "seed" });
  const flip = h("input", { type: "checkbox", checked: true, name: "flip" });
  const tags = h("input", { type: "checkbox", checked: true, name: "tags" });
  const problems = h("div", {});
  const answer = h("div", { "aria-live": "polite" });
  const command = commandLine("");
  const fields = { data, name, preset, from, steps, batch_size: batch, learning_rate: rate, save_every: every, seed };
  const estimate = h("button", { type: "button", onclick: plan }, "What would it take?");
  const go = h("button", { type: "submit", class: "primary" }, "Begin");
  place.append(
    h("form", { class: "panel", "aria-label": "A new run", onsubmit: start },
      data, name, preset, from, steps,
      h("details", {}, h("summary", {}, "More"), batch, rate, every, seed,
        h("label", { class: "check" }, flip, "mirror pictures at random"),
        h("label", { class: "check" }, tags, "learn the tags of the pictures")),
      estimate, go),
    h("section", { class: "canvas", "aria-label": "What it takes" }, problems, answer, command));

  function request() {
    const request = { name: name.value, data: data.value };
    const given = { preset: preset.value, from: from.value, steps: steps.value, batch_size: batch.value, learning_rate: rate.value, save_every: every.value, seed: seed.value };
    for (const [key, value] of Object.entries(given)) if (value !== "" && value !== null) request[key] = value;
    if (request.from) delete request.preset;
    if (!flip.checked) request.no_flip = true;
    if (!tags.checked) request.no_tags = true;
    return request;
  }

  async function plan() {
    showProblem(null, fields, problems);
    estimate.disabled = true;
    answer.replaceChildren(h("p", { class: "wait" }, "Reading the pictures and measuring a few steps …"));
    try {
      const job = await runJob("plan", request(), { onStart: ({ command: line }) => command.say(line) });
      const { facts } = job.result;
      const of = facts.estimate;
      const size = (bytes) => (bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`);
      answer.replaceChildren(h("p", { class: "large-text" }, `About ${duration(facts.seconds)} here`),
        h("dl", { class: "facts-list" }, [
          ["Pictures to train on", count(of.training_pictures)],
          ["To validate", count(of.validation_pictures)],
          ["Steps", count(facts.steps)],
          ["Passes over the pictures", of.epochs.toFixed(1)],
          ["Parameters", `${(of.n_parameters / 1e6).toFixed(2)} M`],
          ["Size", `${facts.image_size[2]} × ${facts.image_size[1]}`],
          ["Tags", count(facts.tags)],
          ["Memory", size(of.memory_bytes)],
          ["Checkpoints", `${of.n_checkpoints} of ${size(of.checkpoint_bytes)}`],
          ["Pictures a second", facts.images_per_second.toFixed(0)],
        ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
        h("p", { class: "summary" }, "Measured now; other work on this machine makes it slower."));
      say(`About ${duration(facts.seconds)} here.`);
    } catch (problem) {
      answer.replaceChildren();
      showProblem(problem, fields, problems);
    }
    estimate.disabled = false;
  }

  async function start(event) {
    event.preventDefault();
    showProblem(null, fields, problems);
    go.disabled = true;
    try {
      const sent = request();
      await post("/jobs", { kind: "train", request: sent });
      location.hash = `#/train/${encodeURIComponent(sent.name)}`;
    } catch (problem) {
      showProblem(problem, fields, problems);
    }
    go.disabled = false;
  }
  return undefined;
}
