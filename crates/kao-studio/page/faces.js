// Faces that form: a grid of canvases, which become pictures when the job is done.

import { h } from "./dom.js";
import { imageUrl, previewBitmap } from "./api.js";

/** So many columns that images are large, all of them are in sight, and rows are rather full. */
function columnsFor(n, width, isSmall) {
  const most = Math.max(1, Math.min(n, Math.floor(width / 72)));
  if (isSmall) return most;
  const height = 0.72 * innerHeight;
  let [best, score] = [most, 0];
  for (let columns = most; columns > most / 3; columns--) {
    const side = width / columns;
    const isInSight = side * Math.ceil(n / columns) <= height;
    const worth = side * (n % columns === 0 ? 1 : 0.85);
    if (worth > score && (isInSight || columns === most)) [best, score] = [columns, worth];
  }
  return best;
}

/** A grid of `n` faces. `onOpen(index)` is called when one is chosen; `isSmall` makes one row of them. */
export function gallery(n, { width = 64, height = 64, label = (k) => `Face ${k + 1}`, onOpen, isSmall = false } = {}) {
  const cells = Array.from({ length: n }, (_, k) => {
    const canvas = h("canvas", { width, height, "aria-hidden": "true" });
    return h("button", {
      type: "button", class: "face forming", "aria-label": `${label(k)}, not there yet`, disabled: true,
      onclick: () => onOpen?.(k),
    }, canvas);
  });
  const element = h("div", { class: "faces", role: "group", "aria-label": "Images" }, cells);
  element.style.setProperty("--n", n);
  new ResizeObserver(([{ contentRect }]) => {
    element.style.setProperty("--columns", columnsFor(n, contentRect.width, isSmall));
  }).observe(element);
  element.classList.toggle("few", n <= 4);
  element.addEventListener("keydown", move);
  let shown = 0;
  let asked = 0;

  // The arrow keys go from face to face.
  function move(event) {
    const at = cells.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = getComputedStyle(element).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (!step || !cells[at + step]) return;
    event.preventDefault();
    cells[at + step].focus();
  }

  return {
    element,
    cells,
    /** Shows predicted images. Those that are unpacked too late are left out. */
    async preview(preview) {
      const mine = ++asked;
      const bitmap = await previewBitmap(preview);
      if (mine < shown) return;
      shown = mine;
      for (let k = 0; k < preview.count; k++) {
        const cell = cells[preview.first + k];
        const canvas = cell?.querySelector("canvas");
        if (!canvas) continue;
        cell.classList.add("begun");
        canvas.getContext("2d").drawImage(bitmap,
          0, k * preview.height, preview.width, preview.height, 0, 0, canvas.width, canvas.height);
      }
      bitmap.close();
    },
    /** Shows the images of a job that is done. */
    async finish(job, set = "images") {
      shown = Infinity;
      await Promise.all(cells.map(async (cell, k) => {
        const image = h("img", { alt: "", width, height, src: imageUrl(job.id, set, `${k}.png`) });
        await image.decode().catch(() => {});
        cell.replaceChildren(image);
        cell.classList.remove("forming");
        cell.disabled = false;
        cell.setAttribute("aria-label", `${label(k)}, open`);
      }));
    },
    /** Nothing more will come. */
    stop() {
      for (const cell of cells) cell.classList.remove("forming");
    },
  };
}

/** A line that says how far a job is, and a button that ends it. */
export function progressLine(onCancel) {
  const bar = h("div", { class: "bar", role: "progressbar", "aria-label": "How far it is", "aria-valuemin": 0, "aria-valuemax": 100 }, h("i", {}));
  const text = h("span", { class: "progress-text" });
  const button = h("button", { type: "button", class: "quiet", onclick: onCancel }, "Cancel");
  const element = h("div", { class: "progress", hidden: true }, text, bar, button);
  return {
    element,
    show(share, words) {
      element.hidden = false;
      const within = Math.max(0, Math.min(1, share || 0));
      bar.firstChild.style.transform = `scaleX(${within})`;
      bar.setAttribute("aria-valuenow", Math.round(100 * within));
      bar.setAttribute("aria-valuetext", words);
      text.textContent = words;
    },
    hide() { element.hidden = true; },
  };
}

/** The words for how a job stands. */
export function standing(job, progress, duration) {
  if (job?.state === "waiting") {
    return job.position === 0 ? "about to begin" : `${job.position} before this one`;
  }
  if (!progress?.total) return "beginning";
  const left = progress.seconds_left === null ? "" : `, ${duration(progress.seconds_left)} left`;
  return `${Math.floor((100 * progress.done) / progress.total)} %${left}`;
}
