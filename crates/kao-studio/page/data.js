import { h } from "./dom.js";

export async function data(place) {
  place.append(h("p", { class: "notice" }, "This page comes with the requests that it makes."));
}
