// Search: the query stands in the address; hits are cards.
import { $, address, ask, el, go, opens, post, query, refreshAbout, say, sendPicture, state, thumbnail } from "./app.js";

const chosen = new Set();
let running = null, asked = null, shownOf = null;

const parts = () => ({
  like: asked.getAll("like"), unlike: asked.getAll("unlike"), sent: asked.getAll("sent"), unsent: asked.getAll("unsent"),
  among: asked.getAll("among"), class: asked.get("class"), name: asked.get("name"), metric: asked.get("metric"), k: asked.get("k"),
});
const pictures = (one) => [...one.like, ...one.sent].length;
const move = (changes) => go("search", { ...parts(), ...changes });

// A picture into the query, or out of it.
function add(id, side) {
  const now = parts(), other = side === "like" ? "unlike" : "like";
  move({ class: null, name: null, [side]: [...new Set([...now[side], id])], [other]: now[other].filter((one) => one !== id) });
}

function chips() {
  const { among, ...now } = parts();
  const classes = state.gallery.classes;
  $("class-names").replaceChildren(...classes.slice(0, 1000).map((one) => el("option", { value: one.name })));
  $("class-chips").replaceChildren(...classes.map((one) => {
    const label = String(one.label), on = now.class === label || among.includes(label);
    const chip = el("button", { type: "button", "aria-pressed": on, title: one.name }, `${one.name} (${one.count.toLocaleString("en")})`);
    chip.dataset.label = label;
    chip.addEventListener("click", () => {
      if (pictures(now)) move({ among: on ? among.filter((old) => old !== label) : [...among, label] });
      else go("search", { k: now.k, class: on ? null : label });
    });
    return chip;
  }));
}

function showQuery() {
  const now = parts();
  const entries = [["like", "like"], ["sent", "like"], ["unlike", "unlike"], ["unsent", "unlike"]].flatMap(([kind, side]) =>
    now[kind].map((id) => {
      const own = kind === "like" || kind === "unlike";
      const picture = el("img", { src: own ? thumbnail(id) : `/api/pictures/${id}?small`, width: 48, height: 48, alt: own ? `picture ${id.slice(0, 12)}` : "picture that was sent" });
      const away = el("button", { type: "button", "aria-label": `take picture ${id.slice(0, 12)} out of the query` }, "×");
      away.addEventListener("click", () => move({ [kind]: now[kind].filter((one) => one !== id) }));
      const swap = el("button", { type: "button" }, side === "like" ? "less like this" : "like this");
      const to = { like: "unlike", unlike: "like", sent: "unsent", unsent: "sent" }[kind];
      swap.addEventListener("click", () => move({ [kind]: now[kind].filter((one) => one !== id), [to]: [...now[to], id] }));
      return el("li", { className: side }, picture, el("span", {}, side === "like" ? "like" : "less like"), swap, away);
    }));
  $("query").replaceChildren(...entries);
}

function card(hit, place, same) {
  const name = `${hit.class_name ?? "picture"}, ${hit.file}`;
  const image = el("img", { src: thumbnail(hit.id), alt: name, loading: place < 24 ? "eager" : "lazy", width: 128, height: 128, decoding: "async" });
  const face = el("button", { type: "button", className: "face", title: "search by this picture", "aria-label": `search by ${name}` }, image);
  face.addEventListener("click", () => go("search", { like: hit.id, k: asked.get("k"), metric: asked.get("metric") }));
  const tool = (text, label, work) => {
    const button = el("button", { type: "button", title: label, "aria-label": `${label}: ${name}` }, text);
    button.addEventListener("click", () => work(button));
    return button;
  };
  const now = parts(), first = now.like[0] ?? null, sent = now.sent[0] ?? null;
  const pick = tool(chosen.has(hit.id) ? "✓" : "□", "choose", () => {
    chosen.has(hit.id) ? chosen.delete(hit.id) : chosen.add(hit.id);
    pick.textContent = chosen.has(hit.id) ? "✓" : "□";
    pick.setAttribute("aria-pressed", chosen.has(hit.id));
    box.classList.toggle("chosen", chosen.has(hit.id));
    selection();
  });
  pick.setAttribute("aria-pressed", chosen.has(hit.id));
  const tools = [pick, tool("+", "add to the query", () => add(hit.id, "like")), tool("−", "less like this", () => add(hit.id, "unlike"))];
  if (first || sent) tools.push(tool("why", "why this was found", () => why(hit, first, sent)));
  if (state.about.model) tools.push(tool("✎", "paint on it", () => go("paint", { id: hit.id })));
  const score = hit.score === null ? "" : `${place + 1}. ${hit.score.toFixed(3)}`;
  const box = el("li", { className: chosen.has(hit.id) ? "card chosen" : "card" }, face,
    score ? el("p", { className: "score" }, score) : null,
    hit.class_name === null ? null : el("p", { className: same === null ? "" : same ? "same" : "other", title: hit.class_name }, (same === null ? "" : same ? "✓ " : "✗ ") + hit.class_name),
    el("p", { className: "file", title: hit.file }, hit.file), el("div", { className: "tools" }, ...tools));
  box.dataset.id = hit.id;
  return box;
}

function selection() {
  $("selection-bar").hidden = !chosen.size;
  $("selection-count").textContent = `${chosen.size} chosen`;
}

async function save(form) {
  try {
    const found = await post("/api/export", { gallery: state.gallery.name, ids: [...chosen], as: form });
    const content = form === "json" ? new Blob([JSON.stringify(found, null, 1)], { type: "application/json" }) : await found.blob();
    const link = el("a", { href: URL.createObjectURL(content), download: `chosen.${form}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  } catch (error) { say(error.message); }
}

async function why(hit, like, sent) {
  for (const id of ["why-query", "why-hit"]) $(id).removeAttribute("src");
  $("why-status").textContent = "looking …";
  $("why-name").textContent = hit.file;
  $("why").showModal();
  try {
    const found = await ask(`/api/why?${query({ gallery: state.gallery.name, hit: hit.id, like: sent ? null : like, sent })}`);
    for (const side of ["query", "hit"]) {
      $(`why-${side}`).src = found[side].picture;
      $(`why-${side}`).dataset.grid = JSON.stringify(found[side].grid);
    }
    $("why-status").textContent = "";
  } catch (error) { $("why-status").textContent = error.message; }
}

async function show(given) {
  asked = given;
  const gallery = state.gallery;
  if (!gallery || gallery.error) { $("hits").replaceChildren(); return; }
  if (gallery.kind !== "gallery") { say(`${gallery.name} is a feature store, which shows clusters only.`); $("hits").replaceChildren(); return; }
  if (shownOf !== gallery.name) { chosen.clear(); shownOf = gallery.name; selection(); }
  const names = { cosine: "features (cosine)", hamming: "bits (Hamming)", two_stage: "bits, re-ranked by features" };
  $("search-metric").replaceChildren(...gallery.metrics.map((one) => el("option", { value: one }, names[one])));
  $("search-metric").value = asked.get("metric") || gallery.metrics[0];
  $("search-metric").title = gallery.metrics.length > 1 ? "" : "this gallery holds one kind of vectors; bigr reindex makes others";
  $("search-k").value = asked.get("k") || "60";
  $("search-text").value = asked.get("name") || (asked.get("class") && gallery.classes.find((one) => String(one.label) === asked.get("class"))?.name) || "";
  chips();
  showQuery();
  running?.abort();
  running = new AbortController();
  $("search-status").textContent = "searching …";
  try {
    const found = await ask(`/api/search?${query({ gallery: gallery.name, ...parts(), k: $("search-k").value })}`, { signal: running.signal });
    $("hits").replaceChildren(...found.hits.map((hit, i) => card(hit, i, hit.same)));
    const shares = found.precision ? ` · of the query's class: ${Object.entries(found.precision).map(([k, p]) => `${Math.round(100 * p)} % of ${k}`).join(", ")}` : "";
    $("search-status").textContent = found.of ? `${found.hits.length} of ${found.of.toLocaleString("en")} pictures, ${found.how}, ${found.seconds.toFixed(2)} s${shares}` : "This gallery is empty; bigr add puts pictures into it.";
    if (found.generation !== gallery.generation) { await refreshAbout(); chips(); }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    $("hits").replaceChildren();
    $("search-status").textContent = "";
    throw error;
  }
}

export const search = {
  start() {
    opens($("search-open"), $("search-file"));
    $("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = $("search-text").value.trim();
      const named = state.gallery.classes.find((one) => one.name.toLowerCase() === text.toLowerCase());
      go("search", { k: asked?.get("k"), ...(named ? { class: named.label } : { name: text }) });
    });
    $("search-metric").addEventListener("change", () => move({ metric: $("search-metric").value }));
    $("search-k").addEventListener("change", () => move({ k: $("search-k").value }));
    for (const button of document.querySelectorAll("[data-export]")) button.addEventListener("click", () => save(button.dataset.export));
    $("selection-clear").addEventListener("click", () => { chosen.clear(); selection(); show(address().asked).catch((error) => say(error.message)); });
  },
  show,
  async take(files) {
    const sent = [];
    for (const file of files.slice(0, 16)) sent.push((await sendPicture(file)).id);
    go("search", { sent, k: asked?.get("k"), metric: asked?.get("metric") });
  },
};
