// Clusters: points on a canvas, a slider through the depth of the model, a lasso, two models side by side.
import { $, ask, el, go, post, query, say, state, thumbnail } from "./app.js";

const NONE = 65535, SPRITES = 8000, CELLS = 64;
let plots = [], lassoing = false, source = null, asked = null, hidden = new Set(), latest = 0;
const still = matchMedia("(prefers-reduced-motion: reduce)"), dark = matchMedia("(prefers-color-scheme: dark)");
const TONED = { "#000000": "#f2f2f2", "#882255": "#d4679b", "#555500": "#a8a832", "#0072B2": "#3f9bd8" }; // those that a dark ground swallows
const toned = (hex) => (dark.matches ? TONED[hex] ?? hex : hex);

// The markers of the library's plots.
function marker(pen, kind, x, y, r) {
  const shape = (corners) => { corners.forEach(([a, b], i) => (i ? pen.lineTo(x + a * r, y + b * r) : pen.moveTo(x + a * r, y + b * r))); pen.closePath(); };
  const round = (count, turn, size = 1.1) => Array.from({ length: count }, (_, i) => [size * Math.cos(turn + (2 * Math.PI * i) / count), size * Math.sin(turn + (2 * Math.PI * i) / count)]);
  const plus = [[-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1], [-.35, 1], [-.35, .35], [-1, .35], [-1, -.35], [-.35, -.35]];
  pen.beginPath();
  const turns = { ">": 0, v: Math.PI / 2, "<": Math.PI, "^": -Math.PI / 2 };
  if (kind in turns) shape(round(3, turns[kind], 1.2));
  else if (kind === "s") shape([[-.88, -.88], [.88, -.88], [.88, .88], [-.88, .88]]);
  else if (kind === "D") shape(round(4, 0, 1.15));
  else if (kind === "p") shape(round(5, -Math.PI / 2));
  else if (kind === "P") shape(plus);
  else if (kind === "X") shape(plus.map(([a, b]) => [(a - b) * .75, (a + b) * .75]));
  else pen.arc(x, y, kind === "." ? r * .7 : r, 0, 2 * Math.PI);
  pen.fill();
}

class Plot {
  constructor(gallery, about, buffer) {
    Object.assign(this, { gallery, about, n: about.items, depth: 0, x: 0, y: 0, zoom: 1, hover: -1, chosen: null, grid: null, lasso: null });
    const values = new Uint16Array(buffer);
    this.layers = about.layers.map((_, i) => values.subarray(i * 2 * this.n, (i + 1) * 2 * this.n));
    this.labels = values.subarray(about.layers.length * 2 * this.n);
    this.at = new Float32Array(2 * this.n);
    this.style = new Map(about.classes.map((one) => [one.label, one]));
    this.canvas = el("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "scatter plot", "aria-label": `${this.n} pictures of ${gallery.name}` });
    this.tip = el("div", { className: "tip", hidden: true });
    this.says = el("p", { className: "unseen", role: "status" });
    this.box = el("div", { className: "plot" }, this.canvas, el("p", { className: "name" }, gallery.name), this.tip, this.says);
    this.events();
    this.moveTo(0);
  }

  moveTo(depth) {
    this.depth = Math.min(depth, this.layers.length - 1);
    const low = Math.floor(this.depth), part = this.depth - low, a = this.layers[low], b = this.layers[Math.min(low + 1, this.layers.length - 1)];
    for (let i = 0; i < 2 * this.n; i++) this.at[i] = (a[i] + (b[i] - a[i]) * part) / NONE;
    for (let i = 1; i < 2 * this.n; i += 2) this.at[i] = 1 - this.at[i]; // upwards, as in the library's pictures
    this.grid = null;
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  get side() { return Math.min(this.canvas.width, this.canvas.height) * 0.94 * this.zoom; }
  toScreen(i) {
    return [(this.at[2 * i] - 0.5 - this.x) * this.side + this.canvas.width / 2, (this.at[2 * i + 1] - 0.5 - this.y) * this.side + this.canvas.height / 2];
  }
  toData(left, top) {
    return [(left - this.canvas.width / 2) / this.side + 0.5 + this.x, (top - this.canvas.height / 2) / this.side + 0.5 + this.y];
  }
  shown(i) { return !hidden.has(this.labels[i]); }

  draw() {
    const { canvas, n } = this, ratio = devicePixelRatio;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const radius = Math.max(1.5, Math.min(7, 190 / Math.sqrt(n))) * ratio * Math.min(2, Math.sqrt(this.zoom));
    if (n > SPRITES) this.drawPixels(pen, width, height, Math.max(1, Math.round(radius)));
    else this.drawMarkers(pen, width, height, radius);
    for (const i of this.hover >= 0 ? [this.hover] : []) {
      const [left, top] = this.toScreen(i);
      pen.lineWidth = 3 * ratio;
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.beginPath(); pen.arc(left, top, radius + 5 * ratio, 0, 2 * Math.PI); pen.stroke();
    }
    if (this.lasso?.length > 1) {
      pen.lineWidth = 2 * ratio;
      pen.strokeStyle = getComputedStyle(canvas).color;
      pen.setLineDash([6 * ratio, 4 * ratio]);
      pen.beginPath(); this.lasso.forEach(([a, b], i) => (i ? pen.lineTo(a, b) : pen.moveTo(a, b))); pen.closePath(); pen.stroke();
      pen.setLineDash([]);
    }
    this.drawn = performance.now();
  }

  drawMarkers(pen, width, height, radius) {
    const size = Math.ceil(radius * 2.6), sprites = new Map();
    const sprite = (label) => {
      const one = this.style.get(label), made = el("canvas", { width: size, height: size }), own = made.getContext("2d");
      own.fillStyle = toned(one?.color ?? "#0072B2");
      marker(own, one?.marker ?? "o", size / 2, size / 2, radius);
      sprites.set(label, made);
      return made;
    };
    for (const bright of this.chosen ? [false, true] : [true]) {
      pen.globalAlpha = bright ? 0.82 : 0.15;
      for (let i = 0; i < this.n; i++) {
        if ((this.chosen && Boolean(this.chosen[i]) !== bright) || !this.shown(i)) continue;
        const [left, top] = this.toScreen(i);
        if (left < -size || top < -size || left > width + size || top > height + size) continue;
        pen.drawImage(sprites.get(this.labels[i]) ?? sprite(this.labels[i]), Math.round(left - size / 2), Math.round(top - size / 2));
      }
    }
    pen.globalAlpha = 1;
  }

  // Many points: squares written into the pixels, which is some ten times as fast as drawing shapes.
  drawPixels(pen, width, height, size) {
    const image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer), { at, labels, side, chosen } = this;
    const colors = new Uint32Array(NONE + 1).fill(this.packed("#0072B2"));
    for (const [label, one] of this.style) colors[label] = hidden.has(label) ? 0 : this.packed(toned(one.color));
    const shiftX = width / 2 - (0.5 + this.x) * side - size / 2, shiftY = height / 2 - (0.5 + this.y) * side - size / 2, faint = this.packed("#9aa3ab", 70);
    for (const bright of chosen ? [0, 1] : [1]) {
      for (let i = 0; i < this.n; i++) {
        if (chosen && chosen[i] !== bright) continue;
        const left = (at[2 * i] * side + shiftX) | 0, top = (at[2 * i + 1] * side + shiftY) | 0, value = bright ? colors[labels[i]] : faint;
        if (!value || left < 0 || top < 0 || left + size >= width || top + size >= height) continue;
        for (let y = top; y < top + size; y++) for (let x = left, row = y * width; x < left + size; x++) pixels[row + x] = value;
      }
    }
    pen.putImageData(image, 0, 0);
  }
  packed(hex, alpha = 255) {
    const value = parseInt(hex.slice(1), 16);
    return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
  }

  // The point nearest to a place on the screen, within some pixels; points are sorted into cells first.
  nearest(left, top, within = 14) {
    if (!this.grid) {
      const cell = (v) => Math.min(CELLS - 1, Math.max(0, Math.floor(v * CELLS)));
      const starts = new Uint32Array(CELLS * CELLS + 1), order = new Uint32Array(this.n), place = new Uint16Array(this.n);
      for (let i = 0; i < this.n; i++) { place[i] = cell(this.at[2 * i + 1]) * CELLS + cell(this.at[2 * i]); starts[place[i] + 1]++; }
      for (let i = 0; i < CELLS * CELLS; i++) starts[i + 1] += starts[i];
      const next = starts.slice();
      for (let i = 0; i < this.n; i++) order[next[place[i]]++] = i;
      this.grid = { starts, order };
    }
    const [x, y] = this.toData(left, top), reach = (within * devicePixelRatio) / this.side;
    const span = (v) => [Math.max(0, Math.floor((v - reach) * CELLS)), Math.min(CELLS - 1, Math.floor((v + reach) * CELLS))];
    let best = -1, least = reach * reach;
    for (let row = span(y)[0]; row <= span(y)[1]; row++) {
      for (let k = this.grid.starts[row * CELLS + span(x)[0]]; k < this.grid.starts[row * CELLS + span(x)[1] + 1]; k++) {
        const i = this.grid.order[k], far = (this.at[2 * i] - x) ** 2 + (this.at[2 * i + 1] - y) ** 2;
        if (far < least && this.shown(i)) { least = far; best = i; }
      }
    }
    return best;
  }

  async show(i) {
    if (i === this.hover) return;
    this.hover = i;
    this.redraw();
    linked(this, (other, j) => { other.hover = j; other.redraw(); }, i);
    if (i < 0) { this.tip.hidden = true; return; }
    try {
      const [item] = await items(this, [i]);
      if (this.hover !== i) return;
      const [left, top] = this.toScreen(i).map((v) => v / devicePixelRatio);
      this.tip.replaceChildren(el("img", { src: thumbnail(item.id, this.gallery), alt: "", width: 126, height: 126 }), el("p", {}, item.class_name ?? ""), el("p", {}, item.file));
      this.tip.hidden = false;
      this.tip.style.left = `${Math.min(this.canvas.clientWidth - 146, Math.max(4, left + 14))}px`;
      this.tip.style.top = `${Math.min(this.canvas.clientHeight - 200, Math.max(4, top + 14))}px`;
      this.says.textContent = `${item.class_name ?? ""} ${item.file}`;
    } catch (error) { say(error.message); }
  }

  async open(i) {
    if (i < 0) return;
    const [item] = await items(this, [i]);
    if (this.gallery.kind !== "gallery") { say("a feature store shows clusters only; make a gallery of it with bigr index --store to search."); return; }
    go("search", { gallery: this.gallery.name, like: item.id });
  }

  zoomAt(factor, left, top) {
    const [x, y] = this.toData(left, top);
    this.zoom = Math.min(200, Math.max(0.5, this.zoom * factor));
    const [nx, ny] = this.toData(left, top);
    this.x += x - nx; this.y += y - ny;
    this.tip.hidden = true;
    this.redraw();
  }
  reset() { Object.assign(this, { x: 0, y: 0, zoom: 1 }); this.redraw(); }

  select(polygon) {
    const inside = (x, y) => {
      let odd = false;
      for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
        const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
      }
      return odd;
    };
    const found = [];
    for (let i = 0; i < this.n; i++) { const [left, top] = this.toScreen(i); if (this.shown(i) && inside(left, top)) found.push(i); }
    this.choose(found);
    for (const other of plots) if (other !== this) other.choose(found.map((i) => this.links?.get(other)?.[i] ?? -1).filter((j) => j >= 0));
    result(this, found);
  }
  choose(found) {
    this.chosen = null;
    if (found.length) { this.chosen = new Uint8Array(this.n); for (const i of found) this.chosen[i] = 1; }
    this.redraw();
  }

  events() {
    const { canvas } = this, place = (event) => { const frame = canvas.getBoundingClientRect(); return [(event.clientX - frame.left) * devicePixelRatio, (event.clientY - frame.top) * devicePixelRatio]; };
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      drag = { from: place(event), last: place(event), moved: false };
      if (lassoing) this.lasso = [drag.from];
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = place(event);
      if (!drag) { this.show(this.nearest(...here)); return; }
      if (Math.hypot(here[0] - drag.from[0], here[1] - drag.from[1]) > 4) drag.moved = true;
      if (lassoing) this.lasso.push(here);
      else if (drag.moved) { this.x -= (here[0] - drag.last[0]) / this.side; this.y -= (here[1] - drag.last[1]) / this.side; this.tip.hidden = true; }
      drag.last = here;
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const line = this.lasso;
      if (lassoing && line?.length > 2) { this.select(line); }
      else if (drag && !drag.moved) this.open(this.nearest(...place(event))).catch((error) => say(error.message));
      drag = this.lasso = null;
      this.redraw();
    });
    canvas.addEventListener("pointerleave", () => { if (!drag) this.show(-1); });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoomAt(Math.exp(-event.deltaY / 400), ...place(event)); }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = 0.08 / this.zoom, middle = [canvas.width / 2, canvas.height / 2];
      const keys = {
        ArrowLeft: () => { this.x -= step; }, ArrowRight: () => { this.x += step; }, ArrowUp: () => { this.y -= step; }, ArrowDown: () => { this.y += step; },
        "+": () => this.zoomAt(1.4, ...middle), "=": () => this.zoomAt(1.4, ...middle), "-": () => this.zoomAt(1 / 1.4, ...middle), 0: () => this.reset(),
        h: () => this.show(this.nearest(...middle, 4000)), Enter: () => this.open(this.hover), Escape: () => { this.show(-1); this.choose([]); },
        l: () => this.select([[0, 0], [canvas.width, 0], [canvas.width, canvas.height], [0, canvas.height]]),
      };
      if (!(event.key in keys)) return;
      event.preventDefault();
      Promise.resolve(keys[event.key]()).catch((error) => say(error.message));
      this.redraw();
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }
}

function linked(plot, work, i) {
  for (const other of plots) if (other !== plot) work(other, i < 0 ? -1 : plot.links?.get(other)?.[i] ?? -1);
}
const items = (plot, points) => post("/api/clusters/items", { gallery: plot.gallery.name, method: asked.method, items: asked.items, points });

async function result(plot, found) {
  $("lasso-result").hidden = !found.length;
  if (!found.length) return;
  const counts = new Map();
  for (const i of found) counts.set(plot.labels[i], (counts.get(plot.labels[i]) ?? 0) + 1);
  const rows = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 20);
  $("shares").tBodies[0]?.remove();
  $("shares").append(el("tbody", {}, ...rows.map(([label, count]) => el("tr", {}, el("td", {}, plot.style.get(label)?.name ?? "no class"), el("td", {}, `${count}`), el("td", {}, `${((100 * count) / found.length).toFixed(1)} %`)))));
  const listed = await items(plot, found.slice(0, 200)).catch((error) => { say(error.message); return []; });
  $("lasso-items").replaceChildren(...listed.map((item) => {
    const name = `${item.class_name ?? "picture"}, ${item.file}`;
    const open = el("button", { type: "button", className: "face", "aria-label": `search by ${name}`, title: name }, el("img", { src: thumbnail(item.id, plot.gallery), alt: name, loading: "lazy", width: 84, height: 84 }));
    open.addEventListener("click", () => plot.open(item.point).catch((error) => say(error.message)));
    return el("li", { className: "card" }, open);
  }));
  $("clusters-status").textContent = `${found.length.toLocaleString("en")} inside the lasso`;
}

function legend() {
  const classes = plots[0].about.classes;
  $("legend").replaceChildren(...classes.map((one) => {
    const mark = el("canvas", { className: "mark", width: 36, height: 28, "aria-hidden": "true" }), pen = mark.getContext("2d");
    pen.fillStyle = toned(one.color);
    marker(pen, one.marker, 16, 14, 9);
    const chip = el("button", { type: "button", "aria-pressed": !hidden.has(one.label), className: hidden.has(one.label) ? "off" : "", title: `${one.name}: show or hide` }, mark, `${one.name} (${one.count.toLocaleString("en")})`);
    chip.addEventListener("click", () => { hidden.has(one.label) ? hidden.delete(one.label) : hidden.add(one.label); legend(); plots.forEach((plot) => plot.redraw()); });
    return chip;
  }));
}

// Points of a gallery; where they are not there yet, a job makes them, which a reload finds again.
async function load(gallery) {
  const values = { gallery: gallery.name, method: asked.method, items: asked.items };
  let about = await ask(`/api/clusters?${query(values)}`);
  if (!about.ready) {
    const begun = await post("/api/jobs", { kind: "clusters", ...values, items: Number(values.items) });
    await new Promise((resolve, reject) => {
      source = new EventSource(`/api/jobs/${begun.id}/events`);
      const cancel = el("button", { type: "button" }, "Cancel");
      cancel.addEventListener("click", () => ask(`/api/jobs/${begun.id}`, { method: "DELETE" }).then(() => { $("clusters-status").textContent = "ends after this layer …"; }, (error) => say(error.message)));
      $("clusters-job").replaceChildren(cancel);
      $("clusters-job").hidden = false;
      const end = (work, value) => { source.close(); $("clusters-job").hidden = true; work(value); };
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) end(reject, new Error("the job is not known any more; ask again.")); };
      source.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.what === "waiting") $("clusters-status").textContent = `waiting: ${event.place} before this one`;
        else if (event.what === "layer") $("clusters-status").textContent = `arranging ${about.items.toLocaleString("en")} pictures of ${gallery.name}: ${event.layer}, ${event.number + 1} of ${event.layers} …`;
        else if (event.what === "done") end(resolve);
        else if (event.what !== "running") end(reject, new Error(event.what === "failed" ? event.error : "cancelled"));
      };
    });
  }
  const answer = await ask(`/api/clusters/points?${query(values)}`);
  return new Plot(gallery, about, await answer.arrayBuffer());
}

async function link() {
  if (plots.length < 2) return;
  const ids = await Promise.all(plots.map((plot) => ask(`/api/clusters/ids?${query({ gallery: plot.gallery.name, method: asked.method, items: asked.items })}`)));
  const places = ids.map((list) => new Map(list.map((id, i) => [id, i])));
  plots.forEach((plot, a) => { plot.links = new Map(plots.map((other, b) => [other, ids[a].map((id) => places[b].get(id) ?? -1)])); });
}

async function show(given) {
  const mine = ++latest;
  source?.close();
  $("clusters-job").hidden = true;
  asked = { method: given.get("method") || "tsne", items: given.get("items") || "2000", other: given.get("other") || "" };
  $("clusters-method").value = asked.method;
  $("clusters-items").value = asked.items;
  const others = state.about.galleries.filter((one) => one.name !== state.gallery?.name);
  $("clusters-other").replaceChildren(el("option", { value: "" }, "nothing"), ...others.map((one) => el("option", {}, one.name)));
  $("clusters-other").value = asked.other;
  $("clusters-other").parentElement.hidden = !others.length;
  $("plots").replaceChildren(); $("legend").replaceChildren();
  $("lasso-result").hidden = $("depth-label").hidden = true;
  plots = [];
  hidden = new Set();
  if (!state.gallery || state.gallery.error) return;
  $("clusters-status").textContent = "loading …";
  const wanted = [state.gallery, ...others.filter((one) => one.name === asked.other)], made = [];
  try {
    for (const gallery of wanted) made.push(await load(gallery));
  } catch (error) {
    if (mine === latest) { $("clusters-status").textContent = ""; throw error; }
  }
  if (mine !== latest) return;
  plots = made;
  $("plots").replaceChildren(...plots.map((plot) => plot.box));
  const { about } = plots[0], depth = Math.max(...plots.map((plot) => plot.layers.length));
  $("depth-label").hidden = depth < 2;
  Object.assign($("depth"), { max: depth - 1, step: still.matches ? 1 : 0.01, value: 0 });
  $("depth-name").textContent = about.layers[0];
  legend();
  $("clusters-status").textContent = `${about.items.toLocaleString("en")} of ${about.of.toLocaleString("en")} pictures. Wheel or + and − zoom, drag or arrows move, h names what is nearest to the middle, Enter searches by it, l chooses all in sight.`;
  await link();
}

export const clusters = {
  start() {
    const again = () => go("clusters", { method: $("clusters-method").value, items: $("clusters-items").value, other: $("clusters-other").value });
    for (const name of ["method", "items", "other"]) $(`clusters-${name}`).addEventListener("change", again);
    $("clusters-form").addEventListener("submit", (event) => event.preventDefault());
    $("depth").addEventListener("input", () => {
      const depth = Number($("depth").value);
      plots.forEach((plot) => plot.moveTo(depth));
      $("depth-name").textContent = plots[0].about.layers[Math.round(Math.min(depth, plots[0].layers.length - 1))];
    });
    $("clusters-lasso").addEventListener("click", () => { lassoing = !lassoing; $("clusters-lasso").setAttribute("aria-pressed", lassoing); });
    $("clusters-reset").addEventListener("click", () => plots.forEach((plot) => { plot.choose([]); plot.reset(); }));
    dark.addEventListener("change", () => { if (plots.length) { legend(); plots.forEach((plot) => plot.redraw()); } });
  },
  show,
  leave() { latest++; source?.close(); },
};
