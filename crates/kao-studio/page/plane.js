// A plane between four images, through which one drags.

import { commandLine, entry, h, say, showProblem } from "./dom.js";
import { imageUrl, newest, previewBitmap, run } from "./api.js";
import { randomSeed } from "./sampling.js";

/** Points a side; each is an image that the command line can make. */
const SIDE = 65;

/** The plane; `choices()` gives the model and the steps. */
export function plane(choices) {
  const seeds = [3, 17, 42, 5].map((value, k) => entry(`Seed ${["above left", "above right", "below left", "below right"][k]}`, { type: "number", min: 0, step: 1, value, name: `corner-${k}` }));
  const others = h("button", { type: "button", onclick: () => { for (const seed of seeds) seed.value = randomSeed(); corners(); } }, "Four others");
  const map = h("div", { class: "map", role: "application", tabindex: 0, "aria-label": "Plane between four images. Drag, or use the arrow keys." });
  const images = [0, 1, 2, 3].map((k) => h("img", { class: `corner k${k}`, alt: "" }));
  const knob = h("div", { class: "knob", "aria-hidden": "true" });
  map.append(...images, knob);
  const canvas = h("canvas", { width: 64, height: 64, class: "large", role: "img", "aria-label": "The image at this point" });
  const where = h("p", { class: "summary" });
  const command = commandLine("");
  const problems = h("div", {});
  const element = h("div", { class: "plane" },
    h("div", { class: "plane-side" }, map, h("div", { class: "panel pairs" }, seeds), others),
    h("div", { class: "plane-side" }, problems, canvas, where, command));
  let at = { x: 0.5, y: 0.5 };
  let isBusy = false;
  let next = null;
  let ended = false;
  const asking = newest();

  const between = () => seeds.map((seed) => seed.value ?? 0);
  const point = () => Math.round(at.y * (SIDE - 1)) * SIDE + Math.round(at.x * (SIDE - 1));

  async function corners() {
    const { model, steps, size: [, height, width] } = choices();
    Object.assign(canvas, { width, height });
    between().forEach((seed, k) => {
      images[k].src = `/api/v1/sample.png?${new URLSearchParams({ model, seed, steps })}`;
      images[k].alt = `Image of seed ${seed}`;
    });
    move(at);
  }

  function move({ x, y }) {
    const within = (value) => Math.max(0, Math.min(1, value));
    at = { x: within(x), y: within(y) };
    knob.style.left = `${100 * at.x}%`;
    knob.style.top = `${100 * at.y}%`;
    const number = point();
    where.textContent = `Point ${number % SIDE} to the right, ${Math.floor(number / SIDE)} down, of ${SIDE} × ${SIDE}`;
    next = number;
    if (!isBusy) sample();
  }

  /** Samples where the knob is; what lies between two samples is left out. */
  async function sample() {
    isBusy = true;
    while (next !== null && !ended) {
      const number = next;
      next = null;
      const { model, steps } = choices();
      const request = { model, steps, between: between(), plane: true, frames: SIDE, pick: [number] };
      try {
        showProblem(null, {}, problems);
        const job = await run("interpolate", request, {
          onPreview: async (preview) => {
            const bitmap = await previewBitmap(preview);
            if (!isBusy) return;
            canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
          },
        }, { signal: asking.next() });
        const image = h("img", { src: imageUrl(job.id, "images", "grid.png"), alt: "" });
        await image.decode();
        canvas.getContext("2d").drawImage(image, 0, 0);
        command.say(job.command);
      } catch (problem) {
        if (problem.code === undefined) throw problem;
        if (problem.code !== "cancelled") showProblem(problem, {}, problems);
      }
    }
    isBusy = false;
    say(where.textContent);
  }

  const placed = (event) => {
    const box = map.getBoundingClientRect();
    move({ x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
  };
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); placed(event); });
  map.addEventListener("pointermove", (event) => { if (event.buttons) placed(event); });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const by = (event.shiftKey ? 8 : 2) / (SIDE - 1);
    move({ x: at.x + by * step[0], y: at.y + by * step[1] });
  });
  for (const seed of seeds) seed.control.addEventListener("change", corners);
  return { element, begin: corners, end: () => { ended = true; asking.end(); } };
}
