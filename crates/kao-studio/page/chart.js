// Line charts as SVG: linear or logarithmic, several curves, a line under the pointer.

const NS = "http://www.w3.org/2000/svg";

function s(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** About `n` round numbers between two. */
function ticks(low, high, n) {
  const rough = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(at);
  return found;
}

/** Round numbers between two on a logarithmic axis: the closer these are, the more of them. */
function logTicks(low, high) {
  const ratio = high / low;
  let factors = [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9];
  if (ratio > 2) factors = [1, 1.5, 2, 3, 4, 5, 7];
  if (ratio > 8) factors = [1, 2, 5];
  if (ratio > 100) factors = [1];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of factors) {
      const at = factor * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) found.push(at);
    }
  }
  return found;
}

const shown = (value) => {
  const short = Number(value.toPrecision(3));
  return short !== 0 && Math.abs(short) < 0.001 ? short.toExponential() : short.toString();
};

/**
 * A chart of `curves`: { name, points: [[x, y], …], colour (1 to 5), faint, marked }.
 * `title` is read to those who do not see it.
 */
export function chart(curves, { title, log = false, height = 240 } = {}) {
  // As wide as narrow windows, so that the text does not shrink.
  const width = Math.max(300, Math.min(600, innerWidth - 64));
  const [left, right, top, bottom] = [56, 22, 10, 28];
  const fits = ([x, y]) => isFinite(x) && isFinite(y) && (!log || y > 0);
  const all = curves.flatMap(({ points }) => points.filter(fits));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": title });
  if (all.length === 0) {
    const text = s("text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "axis" });
    text.textContent = "nothing logged yet";
    svg.append(text);
    return svg;
  }
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => y);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (log) { y0 /= 1.05; y1 *= 1.05; } else { const room = (y1 - y0 || Math.abs(y1) || 1) * 0.06; y0 -= room; y1 += room; }
  const scale = log ? Math.log : (y) => y;
  const px = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
  const py = (y) => top + ((scale(y1) - scale(y)) / (scale(y1) - scale(y0) || 1)) * (height - top - bottom);

  for (const y of log ? logTicks(y0, y1) : ticks(y0, y1, 4)) {
    svg.append(s("line", { x1: left, x2: width - right, y1: py(y), y2: py(y), class: "grid" }));
    const text = s("text", { x: left - 8, y: py(y) + 4, "text-anchor": "end", class: "axis" });
    text.textContent = shown(y);
    svg.append(text);
  }
  for (const x of ticks(x0, x1, width / 100)) {
    const text = s("text", { x: px(x), y: height - 8, "text-anchor": "middle", class: "axis" });
    text.textContent = shown(x);
    svg.append(text);
  }
  for (const { points, colour = 1, faint, marked } of curves) {
    const good = points.filter(fits);
    const path = good.map(([x, y], k) => `${k ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    svg.append(s("path", { d: path, class: `curve c${colour}${faint ? " faint" : ""}` }));
    if (marked) for (const [x, y] of good.slice(-60)) svg.append(s("circle", { cx: px(x), cy: py(y), r: 2.5, class: `dot c${colour}` }));
  }
  const line = s("line", { y1: top, y2: height - bottom, class: "pointer", visibility: "hidden" });
  const note = s("text", { y: top + 10, class: "axis", visibility: "hidden" });
  svg.append(line, note);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = x0 + (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (x1 - x0);
    const near = curves.map(({ name, points }) => {
      const good = points.filter(fits);
      const nearest = good.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best), good[0] ?? [NaN, NaN]);
      return [name, nearest];
    }).filter(([, [at]]) => isFinite(at));
    if (near.length === 0) return;
    const at = px(near[0][1][0]);
    line.setAttribute("x1", at);
    line.setAttribute("x2", at);
    note.textContent = `${shown(near[0][1][0])}: ${near.map(([name, [, y]]) => `${name} ${shown(y)}`).join(" · ")}`;
    note.setAttribute("x", at > width / 2 ? at - 6 : at + 6);
    note.setAttribute("text-anchor", at > width / 2 ? "end" : "start");
    for (const element of [line, note]) element.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => {
    for (const element of [line, note]) element.setAttribute("visibility", "hidden");
  });
  return svg;
}

/** What the colours of a chart stand for. */
export function legend(curves) {
  const list = document.createElement("ul");
  list.className = "legend";
  list.append(...curves.filter(({ points }) => points.length).map(({ name, colour = 1, faint }) => {
    const item = document.createElement("li");
    const mark = document.createElement("i");
    mark.className = `c${colour}${faint ? " faint" : ""}`;
    item.append(mark, name);
    return item;
  }));
  return list;
}
