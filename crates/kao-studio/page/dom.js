// Elements, without markup in strings.

/** Makes an element: h("p", { class: "note" }, "text", child, …). */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  set(element, attributes);
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets attributes; functions become listeners, `false` and `null` leave an attribute away. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (value === false || value === null || value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

let lastId = 0;

/** A label above a control, with a line of help where there is something to say. */
export function field(label, control, help, shown) {
  const id = `field-${++lastId}`;
  control.id = id;
  const error = h("small", { class: "error", id: `${id}-error`, hidden: true });
  const note = help ? h("small", { id: `${id}-help` }, help) : null;
  control.setAttribute("aria-describedby", note ? `${id}-help ${id}-error` : `${id}-error`);
  const element = h("div", { class: "field" },
    h("label", { for: id }, h("span", {}, label), shown ?? null), control, note, error);
  element.control = control;
  element.fail = (message) => {
    error.textContent = message ?? "";
    error.hidden = !message;
    control.setAttribute("aria-invalid", message ? "true" : "false");
  };
  return element;
}

/** A slider that shows its value. */
export function slider(label, { min, max, step = 1, value, help, name }) {
  const output = h("output", {});
  const input = h("input", { type: "range", min, max, step, name });
  input.value = value;
  const show = () => {
    output.textContent = input.value;
    const share = (input.value - input.min) / (input.max - input.min || 1);
    input.style.setProperty("--share", `${100 * share}%`);
  };
  input.addEventListener("input", show);
  show();
  const element = field(label, input, help, output);
  output.htmlFor = input.id;
  Object.defineProperty(element, "value", {
    get: () => Number(input.value),
    set: (value) => { input.value = value; show(); },
  });
  return element;
}

/** A choice from a list of [value, text]. */
export function choice(label, options, { value, help, name } = {}) {
  const input = h("select", { name }, options.map(([value, text]) => h("option", { value }, text)));
  if (value !== undefined) input.value = value;
  const element = field(label, input, help);
  Object.defineProperty(element, "value", {
    get: () => input.value,
    set: (value) => { input.value = value; },
  });
  element.options = (options) => {
    const before = input.value;
    input.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
    if (options.some(([value]) => value === before)) input.value = before;
  };
  return element;
}

/** A line of text or a number. */
export function entry(label, { value = "", type = "text", help, name, ...others } = {}) {
  const input = h("input", { type, name, autocomplete: "off", spellcheck: "false", ...others });
  input.value = value;
  const element = field(label, input, help);
  Object.defineProperty(element, "value", {
    get: () => (type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value.trim()),
    set: (value) => { input.value = value; },
  });
  return element;
}

/** The command line that repeats something, with a button that copies it. */
export function commandLine(text) {
  const button = h("button", { type: "button", class: "quiet", onclick: copy }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(code.textContent);
      say("The command line is copied.");
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
  // Lines break between words, not behind the hyphens of flags.
  const words = (text) => text.split(" ").flatMap((word) => [h("span", { class: "word" }, word), " "]).slice(0, -1);
  const code = h("code", { tabindex: 0, "aria-label": "The same on the command line" }, words(text));
  const element = h("div", { class: "command", hidden: !text }, code, button);
  element.say = (text) => { code.replaceChildren(...words(text)); element.hidden = !text; };
  return element;
}

/** Says something to those who listen rather than look. */
export function say(text) {
  // What is outside of an open dialog is not read.
  (document.querySelector("dialog[open] .live") ?? document.getElementById("live")).textContent = text;
}

/** A duration in words. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 0.995) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** A whole number with thin spaces between thousands. */
export function count(n) {
  return Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** What went wrong, where it can be read: at its field, otherwise above the pictures. */
export function showProblem(problem, fields, place) {
  for (const field of Object.values(fields)) field.fail?.(null);
  place.replaceChildren();
  if (!problem) return;
  const text = problem.hint ? `${problem.message}. ${problem.hint}` : problem.message;
  const name = problem.field?.split(".")[0];
  const field = fields[problem.field] ?? fields[name];
  if (field?.fail) {
    field.closest("details")?.setAttribute("open", "");
    field.fail(text);
    field.control.focus();
  } else {
    place.append(h("p", { class: "notice bad", role: "alert" }, text));
  }
}
