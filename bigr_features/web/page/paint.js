// Paint and watch: tokens on a grid over a picture, then every step of the drawing.
import { $, address, ask, el, go, opens, post, query, say, sendPicture, state } from "./app.js";

let model = null, grid = 1, mask = new Set(), cursor = 0, tool = "brush", label = null;
let picture = null, face = null;       // {id} or {sent}, and its decoded image
let job = null, source = null, frames = [], live = true, busy = false, box = null;

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ------------------------------------------------------------------------------------------------ the board

function drawBoard() {
  const canvas = $("board"), side = Math.max(64, Math.round(canvas.clientWidth * devicePixelRatio));
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d"), cell = side / grid;
  pen.imageSmoothingEnabled = false;
  pen.fillStyle = color("--field");
  pen.fillRect(0, 0, side, side);
  if (face) {
    const edge = Math.min(face.naturalWidth, face.naturalHeight); // the model sees the central square
    pen.drawImage(face, (face.naturalWidth - edge) / 2, (face.naturalHeight - edge) / 2, edge, edge, 0, 0, side, side);
  }
  pen.fillStyle = "rgba(230, 159, 0, .62)";
  for (const token of face ? mask : []) pen.fillRect((token % grid) * cell, Math.floor(token / grid) * cell, cell, cell);
  if (face) {
    pen.strokeStyle = "rgba(128, 128, 128, .55)";
    pen.lineWidth = 1;
    pen.beginPath();
    for (let i = 1; i < grid; i++) { pen.moveTo(i * cell, 0); pen.lineTo(i * cell, side); pen.moveTo(0, i * cell); pen.lineTo(side, i * cell); }
    pen.stroke();
  } else {
    pen.fillStyle = color("--soft");
    pen.font = `${Math.round(side / 20)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.fillText(model?.causal ? "this model draws new pictures" : "no picture: all of it is drawn", side / 2, side / 2);
  }
  if (document.activeElement === canvas && face) {
    for (const [width, style] of [[5, color("--paper")], [2.5, color("--accent")]]) {
      pen.lineWidth = width * devicePixelRatio;
      pen.strokeStyle = style;
      pen.strokeRect((cursor % grid) * cell, Math.floor(cursor / grid) * cell, cell, cell);
    }
  }
  canvas.setAttribute("aria-label", face ? `${grid} by ${grid} tokens, ${mask.size} painted` : "no picture");
}

function painted() {
  const steps = $("paint-steps"), most = face ? Math.max(1, mask.size) : grid * grid;
  steps.max = most;
  if (Number(steps.value) > most) steps.value = most;
  else if (!steps.dataset.own && model?.steps) steps.value = Math.min(model.steps, most);
  drawBoard();
  buttons();
}

const tokenAt = (event) => {
  const frame = $("board").getBoundingClientRect();
  const place = (at, start, size) => Math.min(grid - 1, Math.max(0, Math.floor(((at - start) / size) * grid)));
  return place(event.clientY, frame.top, frame.height) * grid + place(event.clientX, frame.left, frame.width);
};
const set = (token, on) => { on ? mask.add(token) : mask.delete(token); };

function boardEvents() {
  const canvas = $("board");
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (!face) return;
    canvas.setPointerCapture(event.pointerId);
    cursor = tokenAt(event);
    drag = { on: !mask.has(cursor), from: cursor, last: cursor, before: new Set(mask) };
    set(cursor, drag.on);
    painted();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const to = tokenAt(event), row = (token) => Math.floor(token / grid), column = (token) => token % grid;
    if (tool === "box") {
      mask = new Set(drag.before);
      for (let y = Math.min(row(drag.from), row(to)); y <= Math.max(row(drag.from), row(to)); y++)
        for (let x = Math.min(column(drag.from), column(to)); x <= Math.max(column(drag.from), column(to)); x++) set(y * grid + x, drag.on);
    } else { // every token between this place and the last one
      const long = Math.max(Math.abs(row(to) - row(drag.last)), Math.abs(column(to) - column(drag.last)), 1);
      for (let i = 1; i <= long; i++) {
        const y = Math.round(row(drag.last) + ((row(to) - row(drag.last)) * i) / long);
        const x = Math.round(column(drag.last) + ((column(to) - column(drag.last)) * i) / long);
        set(y * grid + x, drag.on);
      }
    }
    drag.last = cursor = to;
    painted();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drag = null; });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, drawBoard);
  canvas.addEventListener("keydown", (event) => {
    if (!face || event.ctrlKey || event.metaKey || event.altKey) return;
    const x = cursor % grid, y = Math.floor(cursor / grid);
    const to = { ArrowLeft: [x - 1, y], ArrowRight: [x + 1, y], ArrowUp: [x, y - 1], ArrowDown: [x, y + 1] }[event.key];
    if (to) {
      const next = Math.min(grid - 1, Math.max(0, to[1])) * grid + Math.min(grid - 1, Math.max(0, to[0]));
      if (event.shiftKey) { set(cursor, true); set(next, true); }
      cursor = next;
    } else if (event.key === " ") set(cursor, !mask.has(cursor));
    else if (event.key === "i") invert();
    else if (event.key === "c") mask.clear();
    else if (event.key === "a") mask = new Set(Array(grid * grid).keys());
    else return;
    event.preventDefault();
    painted();
    $("board-says").textContent = `row ${Math.floor(cursor / grid) + 1}, column ${(cursor % grid) + 1}, ${mask.has(cursor) ? "painted" : "kept"}; ${mask.size} painted`;
  });
  new ResizeObserver(drawBoard).observe(canvas);
}
const invert = () => { mask = new Set([...Array(grid * grid).keys()].filter((token) => !mask.has(token))); };

// ------------------------------------------------------------------------------------------------ what is asked for

function buttons() {
  $("paint-run").disabled = !model || busy || Boolean(face && (!mask.size || mask.size === grid * grid));
  $("paint-run").title = face && !mask.size ? "paint one token at least" : face && mask.size === grid * grid ? "leave one token as it is" : "";
  $("paint-cancel").disabled = !busy;
  for (const id of ["tool-brush", "tool-box", "mask-invert", "mask-clear", "paint-none"]) $(id).disabled = !face;
  $("paint-open").disabled = Boolean(model?.causal);
}

function classChips() {
  const chip = (value, name) => {
    const made = el("button", { type: "button", "aria-pressed": label === value, title: name }, name);
    made.addEventListener("click", () => { label = value; classChips(); });
    return made;
  };
  $("paint-classes").replaceChildren(...(model.classes.length ? [chip(null, "no class"), ...model.classes.map((name, i) => chip(i, name))] : []));
  $("paint-guidance").disabled = !model.text && label === null;
}

async function load() {
  if (model) return;
  $("model-name").textContent = "loading the model …";
  model = await ask("/api/model");
  grid = model.grid;
  $("model-name").textContent = `${model.name}: ${model.size} × ${model.size} pixels, ${grid} × ${grid} tokens`;
  $("paint-text-label").hidden = !model.text;
  $("paint-steps-label").hidden = !model.steps;
  $("paint-order-label").hidden = !model.orders.length;
  $("paint-order").replaceChildren(...model.orders.map((name) => el("option", {}, name)));
  $("paint-guidance").value = model.guidance;
  classChips();
}

async function usePicture(given) {
  const path = given.sent ? `/api/pictures/${given.sent}` : given.id ? `/api/image?${query({ gallery: given.gallery, id: given.id })}` : null;
  picture = path && !model.causal ? given : null;
  face = null;
  if (picture) {
    const image = new Image();
    image.src = path;
    try { await image.decode(); face = image; } catch { picture = null; say("this picture is not here any more; drop it again."); }
  }
  painted();
}

function fill(settings) {
  $("paint-seed").value = settings.seed ?? 0;
  $("paint-guidance").value = settings.guidance_scale ?? model.guidance;
  if (settings.num_reveal_steps) { $("paint-steps").max = grid * grid; $("paint-steps").value = settings.num_reveal_steps; $("paint-steps").dataset.own = "1"; }
  if (settings.order) $("paint-order").value = settings.order;
  $("paint-text").value = typeof settings.text === "string" ? settings.text : "";
  label = Number.isInteger(settings.labels) && settings.labels < model.classes.length ? settings.labels : null;
  $("paint-four").checked = false;
  mask = new Set((settings.mask_tokens || []).filter((token) => Number.isInteger(token) && token >= 0 && token < grid * grid));
  classChips();
  painted();
}

async function run(event) {
  event.preventDefault();
  const asked = { kind: "draw", label, seed: Number($("paint-seed").value), count: $("paint-four").checked ? 4 : 1, guidance: Number($("paint-guidance").value) };
  if (!model.classes.length) delete asked.label;
  if (model.text) asked.text = $("paint-text").value;
  if (model.steps) asked.steps = Number($("paint-steps").value);
  if (model.orders.length) asked.order = $("paint-order").value;
  if (picture) Object.assign(asked, picture, { mask: [...mask] });
  try {
    say();
    const begun = await post("/api/jobs", asked);
    go("paint", { gallery: state.gallery?.name, ...picture, job: begun.id }, true);
  } catch (error) { say(error.message); }
}

// ------------------------------------------------------------------------------------------------ watching

function follow(id) {
  source?.close();
  [job, frames, live, busy] = [id, [], true, true];
  $("stages").replaceChildren();
  buttons();
  source = new EventSource(`/api/jobs/${id}/events`);
  source.onmessage = (message) => { if (job === id) happened(JSON.parse(message.data)); };
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) { $("paint-status").textContent = "the server does not answer; trying again …"; return; }
    if (busy) finish("this drawing is not known any more; draw it again.");
  };
}
function finish(text) {
  busy = false;
  source?.close();
  $("paint-status").textContent = text;
  buttons();
}

function happened(event) {
  if (event.what === "waiting") $("paint-status").textContent = `waiting: ${event.place} before this one`;
  else if (event.what === "running") $("paint-status").textContent = "running";
  else if (event.what === "start") stages(event);
  else if (event.what === "step") step(event);
  else if (event.what === "done") { results(event); $("paint-progress").value = $("paint-progress").max; finish(`done, ${Math.max(...frames.map((one) => one.length))} steps with something new`); }
  else finish(event.what === "cancelled" ? "cancelled" : `it failed: ${event.error}`);
}

function stages(event) {
  frames = Array.from({ length: event.images }, () => []);
  if (picture && !mask.size) { mask = new Set(event.tokens); painted(); }
  $("paint-progress").max = event.steps * event.images;
  $("paint-progress").value = 0;
  $("stages").replaceChildren(...frames.map((_, i) => el("li", {}, el("canvas", { width: 512, height: 512, role: "img", "aria-label": `drawing ${i + 1}, not begun` }), el("div", { className: "bar" }))));
}

function step(event) {
  frames[event.image].push(event);
  $("paint-progress").value += 1;
  const most = Math.max(...frames.map((one) => one.length)) - 1;
  $("replay").max = most;
  $("replay").disabled = false;
  if (live) $("replay").value = most;
  showFrame(event.image);
  $("paint-status").textContent = `step ${event.step + 1}`;
}

function showFrame(image) {
  const all = frames[image], canvas = $("stages").children[image]?.firstChild;
  if (!all?.length || !canvas) return;
  const at = Math.min(all.length - 1, Number($("replay").value)), event = all[at];
  canvas.dataset.step = event.step;
  canvas.setAttribute("aria-label", `drawing ${image + 1} after step ${event.step + 1}: ${event.revealed.length} tokens new, ${event.hidden.length} to come`);
  $("replay-name").textContent = `${event.step + 1}: ${event.revealed.length} new, ${event.hidden.length} to come`;
  const draw = (face) => {
    if (all[Math.min(all.length - 1, Number($("replay").value))] !== event) return;
    const pen = canvas.getContext("2d"), cell = canvas.width / grid;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(face, 0, 0, canvas.width, canvas.height);
    if (!$("show-cells").checked) return;
    pen.fillStyle = "rgba(128, 128, 128, .4)";
    for (const token of event.hidden) pen.fillRect((token % grid) * cell, Math.floor(token / grid) * cell, cell, cell);
    event.revealed.forEach((token, i) => {
      const width = Math.max(2, cell / 10);
      pen.lineWidth = width;
      pen.strokeStyle = `rgba(230, 159, 0, ${0.25 + 0.75 * Math.max(0, event.confidence[i] ?? event.confidence[0])})`;
      pen.strokeRect((token % grid) * cell + width / 2, Math.floor(token / grid) * cell + width / 2, cell - width, cell - width);
    });
  };
  if (event.face) draw(event.face);
  else {
    const face = new Image();
    face.onload = () => { event.face = face; draw(face); };
    face.src = `/api/jobs/${job}/pictures/${event.picture}`;
  }
}

function results(event) {
  event.results.forEach((name, i) => {
    const path = `/api/jobs/${job}/pictures/${name}`, seed = event.seeds[i];
    const save = el("a", { href: path, download: `seed_${seed}.png` }, `PNG, seed ${seed}`);
    const again = el("button", { type: "button", "aria-label": `again with the settings of seed ${seed}` }, "Again with these");
    again.addEventListener("click", async () => {
      try {
        const sent = await sendPicture(await (await ask(path)).blob());
        await againWith(sent.settings);
      } catch (error) { say(error.message); }
    });
    $("stages").children[i].lastChild.replaceChildren(save, again);
  });
}

async function againWith(settings) {
  fill(settings);
  const from = settings.picture && typeof settings.picture === "object" ? settings.picture : {};
  go("paint", { gallery: from.gallery, id: from.id, sent: from.sent }, true);
  $("paint-seed").focus();
}

export const paint = {
  start() {
    boardEvents();
    opens($("paint-open"), $("paint-file"));
    $("paint-none").addEventListener("click", () => { mask.clear(); go("paint", {}); });
    $("mask-invert").addEventListener("click", () => { invert(); painted(); });
    $("mask-clear").addEventListener("click", () => { mask.clear(); painted(); });
    for (const name of ["brush", "box"]) $(`tool-${name}`).addEventListener("click", () => {
      tool = name;
      for (const other of ["brush", "box"]) $(`tool-${other}`).setAttribute("aria-pressed", other === name);
    });
    $("paint-steps").addEventListener("input", () => { $("paint-steps").dataset.own = "1"; });
    $("paint-form").addEventListener("submit", run);
    $("paint-cancel").addEventListener("click", () => ask(`/api/jobs/${job}`, { method: "DELETE" }).catch((error) => say(error.message)));
    $("replay").addEventListener("input", () => { live = Number($("replay").value) >= Number($("replay").max); frames.forEach((_, i) => showFrame(i)); });
    $("show-cells").addEventListener("change", () => frames.forEach((_, i) => showFrame(i)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawBoard);
  },
  async show(asked) {
    await load();
    const given = { sent: asked.get("sent"), id: asked.get("id"), gallery: asked.get("gallery") };
    const wanted = given.sent || given.id;
    if (wanted !== (picture?.sent || picture?.id || null) || (wanted && !face)) await usePicture(given.sent ? { sent: given.sent } : given.id ? { gallery: given.gallery, id: given.id } : {});
    else painted();
    const id = asked.get("job");
    if (id && id !== job) follow(id);
  },
  async take(files) {
    const sent = await sendPicture(files[0]);
    if (!model.causal) mask.clear();
    go("paint", { sent: sent.id });
    if (sent.settings && sent.settings.model) {
      const again = el("button", { type: "button" }, "Again with the settings inside this picture");
      again.addEventListener("click", () => againWith(sent.settings).catch((error) => say(error.message)));
      $("paint-status").replaceChildren(again);
    }
  },
};
