// Explore: a plane between four images, and an endless wall of images of one seed.

import { choice, entry, h, slider } from "./dom.js";
import { imageUrl, newest, run, server } from "./api.js";
import { gallery } from "./faces.js";
import { plane } from "./plane.js";
import { alone } from "./sampling.js";
import { view } from "./viewer.js";

/** Images that are asked for at a time. */
const TOGETHER = 24;

export async function explore(place) {
  const { about, models } = await server();
  const model = choice("Model", models.map(({ name }) => [name, name]), { name: "model" });
  const seed = entry("Seed", { type: "number", min: 0, step: 1, value: 1, name: "seed" });
  const steps = slider("Steps", { min: 4, max: 40, value: 12, name: "steps" });
  const wall = h("div", { class: "wall" });
  const end = h("div", { class: "wall-end", "aria-hidden": "true" });
  const form = h("form", { class: "panel row", "aria-label": "What to show", onsubmit: (event) => { event.preventDefault(); begin(); } },
    model, steps, seed, h("button", { type: "submit", class: "primary" }, "Show the wall"));
  const size = () => models.find(({ name }) => name === model.value).image_size;
  const between = about.tasks.includes("interpolate")
    ? plane(() => ({ model: model.value, steps: steps.value, size: size() })) : null;
  place.append(form,
    between ? h("section", { class: "canvas", "aria-label": "Plane between four images" }, between.element) : "",
    h("section", { class: "canvas", "aria-label": "Endless wall" }, wall, end));
  for (const field of [model, steps]) field.control.addEventListener("change", () => between?.begin());
  let visit = 0;
  let isBusy = false;
  let first = 0;
  let faces = [];
  const asking = newest();
  let signal = null;

  const observer = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) more(); }, { rootMargin: "600px" });

  function begin() {
    visit++;
    signal = asking.next();
    first = 0;
    faces = [];
    isBusy = false;
    wall.replaceChildren();
    observer.unobserve(end);
    observer.observe(end);
  }

  async function more() {
    if (isBusy) return;
    isBusy = true;
    const mine = visit;
    const request = { model: model.value, seed: seed.value ?? 0, steps: steps.value, first, count: TOGETHER };
    const [, height, width] = models.find(({ name }) => name === request.model).image_size;
    const at = faces.length;
    const some = gallery(TOGETHER, {
      width, height, label: (k) => `Image ${request.first + k} of seed ${request.seed}`,
      onOpen: (k) => view(faces, at + k),
    });
    wall.append(some.element);
    try {
      const job = await run("sample", request, {
        onPreview: (preview) => mine === visit && some.preview(preview),
      }, { signal });
      if (mine !== visit) return;
      faces.push(...some.cells.map((_, k) => ({
        src: imageUrl(job.id, "images", `${k}.png`),
        title: `Seed ${request.seed}, image ${request.first + k}`,
        facts: job.result.summary,
        command: job.result.sets[0].commands[k],
        request: alone(request, request.first + k),
      })));
      await some.finish(job);
    } catch (problem) {
      some.stop();
      if (mine !== visit) return;
      const pause = problem.retryAfter;
      if (!pause) {
        wall.append(h("p", { class: "notice bad", role: "alert" }, problem.message));
        return;
      }
      some.element.remove();
      await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
      if (mine !== visit) return;
      first -= TOGETHER;
    }
    first += TOGETHER;
    isBusy = false;
    // Where the end is still in sight, the observer says nothing new.
    observer.unobserve(end);
    observer.observe(end);
  }

  between?.begin();
  begin();
  return () => {
    visit++;
    between?.end();
    observer.disconnect();
    asking.end();
  };
}
