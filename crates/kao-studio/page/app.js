// The pages, by the part of the address behind #.

import { h, say } from "./dom.js";
import { forget } from "./api.js";
import { close } from "./viewer.js";
import { create } from "./create.js";
import { explore } from "./explore.js";
import { edit } from "./edit.js";
import { compare } from "./compare.js";
import { train } from "./train.js";
import { data } from "./data.js";

const PAGES = [
  ["create", "Create", create],
  ["explore", "Explore", explore],
  ["edit", "Edit", edit],
  ["compare", "Compare", compare],
  ["train", "Train", train],
  ["data", "Data", data],
];

const view = document.getElementById("view");
const nav = document.getElementById("nav");
let leave = null;
let visit = 0;

nav.append(...PAGES.map(([name, title]) => h("a", { href: `#/${name}`, id: `to-${name}` }, title)));

async function show() {
  const mine = ++visit;
  close();
  leave?.();
  leave = null;
  // A training may have left a model meanwhile.
  forget();
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = PAGES.find(([known]) => known === name) ?? PAGES[0];
  document.title = `${page[1]} · Kao`;
  for (const link of nav.children) {
    if (link.id === `to-${page[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = h("div", { class: `page ${page[0]}` }, h("h1", { class: "unseen" }, page[1]));
  view.replaceChildren(place);
  try {
    const left = await page[2](place, rest.map(decodeURIComponent));
    if (mine === visit) leave = left;
    else left?.();
  } catch (problem) {
    const text = problem.hint ? `${problem.message}. ${problem.hint}` : problem.message;
    place.append(h("p", { class: "notice bad", role: "alert" }, text));
    if (problem.code === undefined) throw problem;
  }
  say(`${page[1]} page`);
}

document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
addEventListener("hashchange", () => { show(); view.focus({ preventScroll: true }); });
show();
