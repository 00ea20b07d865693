// What all pages that sample share: the choices, and the request that they make.

import { choice, entry, h, slider } from "./dom.js";

/** The fields that all pages share which sample: method, steps, η, tags. */
export function samplingFields({ about, models }, kept = {}) {
  const said = (name) => {
    const { steps, spacing } = models.find((model) => model.name === name)?.sampling ?? {};
    return { steps: steps ?? 20, spacing: spacing ?? "trailing" };
  };
  const own = (name) => about.samplers.find((sampler) => sampler.name === name)?.settings.eta;
  const model = choice("Model", models.map(({ name }) => [name, name]), { value: kept.model, name: "model" });
  const sampler = choice("Sampler", about.samplers.map(({ name, title }) => [name, title]), { value: kept.sampler ?? "dpm++", name: "sampler" });
  const steps = slider("Steps", { min: 1, max: 100, value: kept.steps ?? said(model.value).steps, name: "steps" });
  const eta = slider("Noise of the steps, η", { min: 0, max: 1, step: 0.05, value: kept.eta ?? own(sampler.value) ?? 0, name: "eta" });
  const spacing = choice("Timesteps", about.spacings.map((name) => [name, name]), { value: kept.spacing ?? said(model.value).spacing, name: "spacing" });
  const tags = entry("Tags", { value: kept.tags, help: "separated by commas", name: "tags", list: "known-tags" });
  const avoid = entry("Rather not", { value: kept.avoid, name: "avoid", list: "known-tags" });
  const guidance = slider("Guidance", { min: 1, max: 6, step: 0.25, value: kept.guidance ?? 2, name: "guidance" });
  const list = h("datalist", { id: "known-tags" });
  const chips = h("div", { class: "chips" });
  const wishes = h("div", { class: "wishes" }, tags, chips,
    h("details", {}, h("summary", {}, "Rather not, and how strongly"), avoid, guidance), list);

  let shown = said(model.value);
  function adapt() {
    // What nobody has changed is as the model has it.
    const now = said(model.value);
    if (steps.value === shown.steps) steps.value = now.steps;
    if (spacing.value === shown.spacing) spacing.value = now.spacing;
    shown = now;
    eta.hidden = own(sampler.value) === undefined;
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
  sampler.control.addEventListener("change", () => { eta.value = own(sampler.value) ?? 0; adapt(); });
  adapt();

  return {
    fields: { model, sampler, steps, eta, spacing, tags, avoid, guidance },
    wishes,
    imageSize: () => models.find(({ name }) => name === model.value)?.image_size ?? [3, 64, 64],
    /** As a request; what is as by default is left out. */
    request() {
      const request = { model: model.value, steps: steps.value };
      const settings = {};
      if (!eta.hidden && eta.value !== own(sampler.value)) settings.eta = eta.value;
      // With a spacing of the original another method would be taken where none is named.
      if (sampler.value !== "dpm++" || "eta" in settings || spacing.value !== "trailing") request.sampler = { name: sampler.value, ...settings };
      if (spacing.value !== said(model.value).spacing) request.spacing = spacing.value;
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
