// The page: views by the part of the address after #, and what all views share.
import { search } from "./search.js";
import { clusters } from "./clusters.js";
import { paint } from "./paint.js";

export const $ = (id) => document.getElementById(id);
export const state = { about: null, gallery: null };
const views = { search, clusters, paint };
let current = null;

// An element with properties and children; texts are texts, never HTML.
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.startsWith("aria-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function say(message) {
  $("problem").textContent = message || "";
  $("problem").hidden = !message;
}

// JSON of the server; its errors become errors here, with its own sentence.
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer; is it still running?");
  }
  const isJson = (answer.headers.get("content-type") || "").startsWith("application/json");
  if (!answer.ok) throw new Error(isJson ? (await answer.json()).error : `the server answered ${answer.status}`);
  return isJson ? answer.json() : answer;
}

export const post = (path, content) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

export const query = (values) => {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values))
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined && one !== "") found.append(name, one);
  return found.toString();
};

// Kept by the browser as long as the gallery is not changed.
export const thumbnail = (id, gallery = state.gallery) => `/api/thumbnail?${query({ gallery: gallery.name, id, of: gallery.generation })}`;

// The view and its settings in the address, so that back, reload and links work.
export function address() {
  const [view, rest] = location.hash.slice(1).split("?");
  return { view: views[view] ? view : "search", asked: new URLSearchParams(rest || "") };
}
export function go(view, values, replace = false) {
  const to = `#${view}?${query({ gallery: state.gallery?.name, ...values })}`;
  if (to === location.hash) show();
  else if (replace) { history.replaceState(null, "", to); show(); }
  else location.hash = to;
}

async function show() {
  const { view, asked } = address();
  const named = state.about.galleries.find((one) => one.name === asked.get("gallery"));
  const fits = (one) => view !== "search" || one.kind === "gallery";
  state.gallery = named || (state.gallery && fits(state.gallery) ? state.gallery : state.about.galleries.find(fits)) || state.about.galleries[0] || null;
  if (state.gallery) $("gallery").value = state.gallery.name;
  for (const name of Object.keys(views)) $(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `bigr: ${document.querySelector("nav a[aria-current]").textContent}`;
  say(state.gallery?.error);
  if (current !== view) views[current]?.leave?.();
  current = view;
  try {
    await views[view].show(asked);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  }
}

export async function sendPicture(file) {
  say();
  return ask("/api/pictures", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file });
}

async function takeFiles(files) {
  const view = views[address().view];
  const pictures = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
  if (!pictures.length) { say("what was dropped is no picture."); return; }
  try {
    if (view.take) await view.take(pictures);
    else say("pictures are taken by Search and Paint.");
  } catch (error) { say(error.message); }
}
export function opens(button, input) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => { takeFiles(input.files).then(() => { input.value = ""; }); });
}

function listen() {
  let depth = 0;
  addEventListener("dragenter", (event) => { if (event.dataTransfer?.types.includes("Files")) { depth += 1; $("drop").hidden = false; } });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) $("drop").hidden = true; });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); depth = 0; $("drop").hidden = true; takeFiles(event.dataTransfer.files); });
  addEventListener("paste", (event) => { if (event.clipboardData?.files.length) { event.preventDefault(); takeFiles(event.clipboardData.files); } });
  addEventListener("hashchange", show);
  $("gallery").addEventListener("change", () => {
    state.gallery = state.about.galleries.find((one) => one.name === $("gallery").value);
    go(address().view, {});
  });
}

export async function refreshAbout() {
  state.about = await ask("/api/about");
  if (state.gallery) state.gallery = state.about.galleries.find((one) => one.name === state.gallery.name) || state.gallery;
}

async function start() {
  if (location.search) history.replaceState(null, "", location.pathname + location.hash); // the token has become a cookie
  try {
    await refreshAbout();
  } catch (error) { say(error.message); return; }
  const { galleries, model } = state.about;
  $("gallery").replaceChildren(...galleries.map((one) => el("option", { value: one.name, title: one.name }, `${one.name} (${one.count.toLocaleString("en")})`)));
  document.querySelector(".pick").hidden = !galleries.length;
  for (const link of document.querySelectorAll("nav a"))
    if ((link.dataset.view === "paint" && !model) || (link.dataset.view !== "paint" && !galleries.length)) link.hidden = true;
  for (const view of Object.values(views)) view.start?.();
  listen();
  if (!galleries.length && !model) say("the server was started without a gallery and without a model; see bigr serve --help.");
  else if (!location.hash) go(galleries.length ? (galleries.some((one) => one.kind === "gallery") ? "search" : "clusters") : "paint", {}, true);
  else await show();
}
start();
