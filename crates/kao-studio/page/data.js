// Data: the pictures of a folder, their tags, what `prepare` found, and the nearest to an image.

import { choice, count, entry, h, say, showProblem } from "./dom.js";
import { get, newest, run, server } from "./api.js";

/** Pictures of a page. */
const LIMIT = 96;

/** What else an image depends on, besides its model, its seed and its number. */
const OTHERS = ["sampler", "steps", "spacing", "tags", "avoid", "guidance"];

/** The pictures; with a model, a seed, a number and perhaps more of a request the nearest to that image. */
export async function data(place, [ofModel, ofSeed, ofImage, ofOthers]) {
  const { about, models } = await server();
  if (!about.has_data) {
    place.append(h("p", { class: "notice" }, "No folder of pictures was given. Start with ", h("code", {}, "kao studio --data DIR"), " to look at the folders in it."));
    return undefined;
  }
  const { folders } = await get("/data");
  if (folders.length === 0) {
    place.append(h("p", { class: "notice" }, "The folder of data holds no folders of pictures. ", h("code", {}, "kao draw --count 2000 --out DIR/faces"), " draws some."));
    return undefined;
  }
  const folder = choice("Folder", folders.map(({ name }) => [name, name]), { name: "folder" });
  const model = choice("Nearest to an image of", models.map(({ name }) => [name, name]), { name: "model", value: ofModel });
  const seed = entry("Seed", { type: "number", min: 0, value: ofSeed ?? 7, name: "seed" });
  const image = entry("Image", { type: "number", min: 0, value: ofImage ?? 0, name: "image" });
  const problems = h("div", {});
  const summary = h("p", { class: "summary" });
  const near = h("div", {});
  const tags = h("div", { class: "chips" });
  const grid = h("div", { class: "thumbs" });
  const pages = h("div", { class: "actions" });
  const report = h("div", {});
  const fields = { data: folder, model, seed, image };
  let tag = null;
  let offset = 0;
  let visit = 0;
  const asking = newest();

  place.append(
    h("form", { class: "panel row", "aria-label": "What to look at", onsubmit: (event) => { event.preventDefault(); nearest(); } },
      folder, model, seed, image, h("button", { type: "submit" }, "Find the nearest")),
    h("section", { class: "canvas", "aria-label": "Pictures" }, problems, near, summary, tags, grid, pages, report));
  folder.control.addEventListener("change", () => { tag = null; offset = 0; asking.end(); near.replaceChildren(); show(); });

  const url = (name, of) => `/api/v1/data/${encodeURIComponent(of)}/pictures/${encodeURIComponent(name)}`;
  const picture = (name, text, of = folder.value) => h("figure", { class: "thumb" },
    h("img", { src: url(name, of), alt: name, loading: "lazy", title: text }), text ? h("figcaption", {}, text) : null);

  async function show() {
    const mine = ++visit;
    const query = new URLSearchParams({ offset, limit: LIMIT, ...(tag ? { tag } : {}) });
    const found = await get(`/data/${encodeURIComponent(folder.value)}?${query}`);
    if (mine !== visit) return;
    const of = tag ? `${count(found.chosen)} of ${count(found.count)} pictures show “${tag}”` : `${count(found.count)} pictures`;
    summary.textContent = `${of}, ${count(found.n_tags)} tags`;
    say(summary.textContent);
    tags.replaceChildren(...found.tags.slice(0, 60).map(({ tag: name, count: n }) => h("button", {
      type: "button", class: "chip", "aria-pressed": name === tag ? "true" : "false",
      onclick: () => { tag = name === tag ? null : name; offset = 0; show(); },
    }, `${name} ${count(n)}`)));
    grid.replaceChildren(...found.pictures.map(({ name, tags }) => {
      const thumb = picture(name);
      thumb.firstChild.title = [name, ...tags].join("\n");
      return thumb;
    }));
    const page = (text, to) => h("button", { type: "button", disabled: to < 0 || to >= found.chosen, onclick: () => { offset = to; show(); } }, text);
    pages.replaceChildren(page("Before", offset - LIMIT), page("Next", offset + LIMIT),
      h("span", { class: "summary" }, found.chosen ? `${count(offset + 1)} to ${count(Math.min(offset + LIMIT, found.chosen))}` : ""));
    pages.hidden = found.chosen <= LIMIT;
    report.replaceChildren(...(found.report ? prepared(found.report) : []));
  }

  function prepared(found) {
    const line = (title, items, n) => n === 0 ? null : h("details", {}, h("summary", {}, `${count(n)} ${title}`), h("ul", { class: "plain" }, items.map((item) => h("li", {}, item))));
    return [
      h("h2", {}, "What ", h("code", {}, "kao prepare"), " found"),
      h("p", { class: "summary" }, `${count(found.read)} read, ${count(found.written)} written at ${found.size} × ${found.size}, ${count(found.enlarged)} enlarged`),
      line(found.n_duplicates === 1 ? "duplicate was left out" : "duplicates were left out", found.duplicates.map(({ path, of }) => `${path} is ${of}`), found.n_duplicates),
      line("could not be used", found.skipped.map(({ path, reason }) => `${path}: ${reason}`), found.n_skipped),
    ].filter(Boolean);
  }

  const sent = ofOthers === undefined ? {} : JSON.parse(ofOthers);
  const ofSent = Object.fromEntries(OTHERS.filter((name) => name in sent).map((name) => [name, sent[name]]));
  // As long as it is the image that was come from.
  const isSent = () => model.value === ofModel && Number(seed.value) === Number(ofSeed) && Number(image.value) === Number(ofImage);

  async function nearest() {
    const others = isSent() ? ofSent : {};
    const signal = asking.next();
    showProblem(null, fields, problems);
    near.replaceChildren(h("p", { class: "wait" }, "Comparing with every picture …"));
    const request = { data: folder.value, model: model.value, seed: seed.value ?? 0, image: image.value ?? 0, ...others };
    try {
      const job = await run("nearest", request, {}, { signal });
      if (signal.aborted) return;
      const { sampler, ...plain } = others;
      const made = `/api/v1/sample.png?${new URLSearchParams({
        model: request.model, seed: request.seed, pick: request.image, ...plain,
        ...(sampler ? { sampler: sampler.name } : {}), ...(sampler && "eta" in sampler ? { eta: sampler.eta } : {}),
      })}`;
      near.replaceChildren(h("h2", {}, `Nearest to image ${request.image} of seed ${request.seed}`),
        h("div", { class: "thumbs" },
          h("figure", { class: "thumb own" }, h("img", { src: made, alt: "The image itself" }), h("figcaption", {}, "the image")),
          job.result.facts.nearest.map(({ name, rms }) => picture(name, `${rms.toFixed(1)} of 255`, request.data))));
      say("The nearest pictures are there.");
    } catch (problem) {
      if (signal.aborted) return;
      near.replaceChildren();
      showProblem(problem, fields, problems);
    }
  }

  await show();
  if (ofImage !== undefined) nearest();
  return () => { visit++; asking.end(); };
}
