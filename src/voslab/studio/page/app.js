// The annotation page: keeps the current frame and its mask, and connects tools, timeline and server.

import * as api from "./api.js";
import { Mask } from "./mask.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const state = await api.loadState();
const [height, width] = state.size;
let objects = state.objects;
let active = objects[0]?.id ?? null;
let frame = 0;
let wanted = 0; // the frame that is being loaded
let update = state.update;
let playing = false;
let running = false;
const undone = [], done = [];
const UNDO_BYTES = 1 << 27;

const colors = new Map();
function color(id) {
  if (!colors.has(id)) {
    const text = objects.find((one) => one.id === id)?.color ?? "#ffffff";
    colors.set(id, [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
  }
  return colors.get(id);
}

const mask = new Mask(width, height, color);
const view = new View($("view"), mask);
const timeline = new Timeline($("timeline"), state.count, (to) => show(to));
timeline.given = new Set(state.given);
timeline.predicted = new Set(state.predicted);
timeline.uncertainty = new Map(state.uncertainty);

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

// Run something that the user asked for; its error is shown.
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}

// Frames and masks

const images = new Map(); // the latest frames
async function image(number) {
  if (!images.has(number)) {
    images.set(number, api.loadImage(number));
    images.get(number).catch(() => images.delete(number));
    if (images.size > 24) images.delete(images.keys().next().value);
  }
  return images.get(number);
}

async function show(number) {
  number = Math.min(state.count - 1, Math.max(0, number));
  wanted = number;
  tools.leave();
  await saved;
  await attempt(async () => {
    const [bitmap, ids] = await Promise.all([image(number), api.loadMask(number)]);
    if (wanted !== number) return; // another frame was asked for meanwhile
    frame = number;
    view.image = bitmap;
    mask.set(ids);
    refresh();
    if (number + 1 < state.count) image(number + 1).catch(() => {});
  });
}

function refresh() {
  view.draw();
  timeline.draw(frame);
  const hand = timeline.given.has(frame), predicted = timeline.predicted.has(frame);
  const value = timeline.uncertainty.get(frame);
  $("position").textContent = `frame ${frame} of ${state.count - 1}`;
  $("origin").textContent = hand ? "mask made by hand" : predicted ? "predicted mask" : "no mask yet";
  if (!hand && value !== undefined) $("origin").textContent += `, about ${Math.round(100 * value)} % uncertain`;
  $("forget").disabled = !hand;
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
  for (const button of document.querySelectorAll("[data-direction], #export")) button.disabled = running;
  $("cancel").disabled = !running;
}

// Saving: one request at a time, the latest mask of a frame wins

let saved = Promise.resolve();
const queue = new Map();
function save() {
  say("saving …");
  queue.set(frame, mask.ids.slice());
  timeline.given.add(frame);
  refresh();
  saved = saved.then(async () => {
    for (const [number, ids] of [...queue]) {
      queue.delete(number);
      await attempt(async () => {
        await api.saveMask(number, await api.encode(ids, width, height));
        say(`mask of frame ${number} saved`);
      });
    }
  });
  return saved;
}

// Remember the mask before a change.
function remember() {
  done.push({ frame, ids: mask.ids.slice(), given: timeline.given.has(frame) });
  undone.length = 0;
  while (done.length * width * height > UNDO_BYTES && done.length > 1) done.shift();
}

async function step(from, to) {
  const past = from.pop();
  if (!past) return;
  if (past.frame !== frame) await show(past.frame);
  to.push({ frame, ids: mask.ids.slice(), given: timeline.given.has(frame) });
  tools.leave();
  mask.set(past.ids);
  if (past.given) {
    await save();
  } else {
    await saved;
    await discard(frame);
  }
  refresh();
}

// Objects

function listObjects() {
  colors.clear();
  $("objects").replaceChildren(...objects.map((one) => {
    const item = document.createElement("li");
    const swatch = document.createElement("button");
    const name = document.createElement("input");
    item.classList.toggle("active", one.id === active);
    item.dataset.object = one.id;
    swatch.className = "swatch";
    swatch.style.background = one.color;
    swatch.title = `object ${one.id}: key ${one.id}`;
    swatch.setAttribute("aria-label", `Choose object ${one.id}`);
    name.value = one.name;
    name.maxLength = 80;
    name.setAttribute("aria-label", `Name of object ${one.id}`);
    item.addEventListener("click", () => choose(one.id));
    name.addEventListener("change", () => changeObjects(objects.map((other) =>
      other.id === one.id ? { ...other, name: name.value || one.name } : other)));
    item.append(swatch, name);
    return item;
  }));
}

function choose(id) {
  if (active !== id) tools.leave();
  active = id;
  for (const item of $("objects").children) item.classList.toggle("active", Number(item.dataset.object) === id);
}

async function changeObjects(next) {
  const answer = await attempt(() => api.saveObjects(next.map(({ id, name }) => ({ id, name }))));
  if (answer) objects = answer;
  listObjects();
  mask.paint(0, 0, width, height);
  view.draw();
}

async function addObject() {
  const id = Math.max(0, ...objects.map((one) => one.id)) + 1;
  await changeObjects([...objects, { id, name: `object ${id}` }]);
  if (objects.some((one) => one.id === id)) choose(id);
}

// Propagation

async function propagate(direction) {
  await saved;
  const start = Number($("start").value), end = Number($("end").value);
  await attempt(async () => {
    follow(await api.propagate({ direction, start, end }));
    say("");
  });
}

function follow(answer) {
  const { propagation } = answer;
  update = answer.update;
  for (const [number, value] of answer.updates) {
    timeline.predicted.add(number);
    timeline.uncertainty.set(number, value);
  }
  const last = answer.updates.at(-1)?.[0];
  const before = running;
  running = propagation.running;
  $("progress").max = Math.max(1, propagation.total);
  $("progress").value = propagation.done;
  const speed = propagation.seconds > 0 ? propagation.done / propagation.seconds : 0;
  const left = speed > 0 ? Math.ceil((propagation.total - propagation.done) / speed) : 0;
  $("speed").textContent = propagation.total
    ? `${propagation.done} of ${propagation.total} frames, ${speed.toFixed(1)} frames/s` + (running ? `, ${left} s left` : "")
    : "";
  if (propagation.error) say(propagation.error, true);
  else if (before && !running) say(propagation.cancelled ? "cancelled" : "propagated");
  if (last !== undefined && ($("follow").checked || last === frame)) show(last); else refresh();
  if (running) setTimeout(poll, 400);
}

async function poll() {
  const answer = await attempt(() => api.loadProgress(update));
  if (answer) follow(answer); else setTimeout(poll, 2000);
}

// Playback

async function play() {
  playing = !playing;
  $("play").textContent = playing ? "Pause" : "Play";
  while (playing && frame < state.count - 1) {
    await Promise.all([show(frame + 1), new Promise((resolve) => setTimeout(resolve, 40))]);
  }
  playing = false;
  $("play").textContent = "Play";
}

async function discard(number) {
  await attempt(async () => {
    await api.deleteMask(number);
    timeline.given.delete(number);
    say(`mask of frame ${number} discarded`);
  });
}

async function forget() {
  await saved;
  await discard(frame);
  await show(frame);
}

async function exportMasks() {
  const names = [...document.querySelectorAll("#exports input:checked")].map((box) => box.value);
  say("exporting …");
  await saved;
  const answer = await attempt(() => api.exportMasks(names));
  if (!answer) return;
  say("exported");
  $("paths").replaceChildren(...answer.paths.map((path) => Object.assign(document.createElement("li"), { textContent: path })));
}

const tools = new Tools({
  view, mask, say, attempt, remember, save,
  frame: () => frame,
  active: () => active,
  saved: () => saved,
});

// Controls

const press = {
  undo: () => step(done, undone), redo: () => step(undone, done), fit: () => view.fit(), add: addObject, forget,
  cancel: () => attempt(async () => follow(await api.cancel())), play, export: exportMasks,
  previous: () => show(wanted - 1), next: () => show(wanted + 1),
  worst: () => { const worst = timeline.leastCertain(); if (worst !== null) show(worst); },
};
for (const [id, action] of Object.entries(press)) $(id).addEventListener("click", action);
for (const button of document.querySelectorAll("[data-direction]")) {
  button.addEventListener("click", () => propagate(button.dataset.direction));
}

const keys = {
  b: "brush", e: "eraser", p: "polygon", x: "box", c: "click", h: "pan",
};
addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range]):not([type=checkbox])")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z") (event.shiftKey ? press.redo : press.undo)();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (keys[key]) tools.choose(keys[key]);
  else if (key === "arrowleft") show(wanted - 1);
  else if (key === "arrowright") show(wanted + 1);
  else if (key === " ") play();
  else if (key === "u") press.worst();
  else if (key === "0") view.fit();
  else if (key === "enter" || key === "escape") tools.key(key);
  else if (key === "[" || key === "]") $("brush").value = Number($("brush").value) + (key === "]" ? 4 : -4);
  else if (objects.some((one) => String(one.id) === key)) choose(Number(key));
  else return;
  event.preventDefault();
});
addEventListener("resize", () => timeline.draw(frame));
addEventListener("beforeunload", (event) => { if (queue.size) event.preventDefault(); });

document.title = `${state.title} - voslab`;
$("title").textContent = state.title;
$("model").textContent = `${state.count} frames, ${width}x${height}, ${state.model}`;
for (const id of ["start", "end"]) $(id).max = state.count - 1;
$("start").value = 0;
$("end").value = state.count - 1;
$("exports").replaceChildren(...state.exports.map((name) => {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: name === "masks" });
  label.append(box, ` ${name.replace("_", " ")}`);
  return label;
}));
listObjects();
if (!objects.length) await addObject();
await show(timeline.given.values().next().value ?? 0);
view.fit();
follow(state);
document.body.dataset.ready = "true";
