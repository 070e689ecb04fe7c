// The annotation page: keeps the current frame and its mask, and connects tools, timeline and server.

import * as api from "./api.js";
import { Mask } from "./mask.js";
import { Objects } from "./objects.js";
import { Propagation } from "./propagation.js";
import { Seen } from "./seen.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const state = await api.loadState();
const [height, width] = state.size;
let frame = 0;
let wanted = 0; // the frame that is being loaded
let playing = false;
const undone = [], done = [];
const UNDO_BYTES = 1 << 27;

const objects = new Objects(
  { attempt, leave: () => tools.leave(), repaint: () => { repaint(mask); if (view.second) repaint(view.second); view.draw(); } },
  $("objects"), state.objects,
);
const mask = new Mask(width, height, (id) => objects.color(id));
const repaint = (one) => one.paint(0, 0, width, height);
const view = new View($("view"), mask);
const timeline = new Timeline($("timeline"), state.count, (to) => show(to));
timeline.given = new Set(state.given);
timeline.predicted = new Set(state.predicted);
timeline.uncertainty = new Map(state.uncertainty);
const propagation = new Propagation(
  { attempt, say, timeline, show, refresh, saved: () => saved, frame: () => frame }, state.update,
);

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
    const [bitmap, ids, more] = await Promise.all([image(number), api.loadMask(number), seen.load(number)]);
    if (wanted !== number) return; // another frame was asked for meanwhile
    frame = number;
    view.image = bitmap;
    mask.set(ids);
    seen.show(more);
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
  for (const button of document.querySelectorAll("[data-direction], #export")) button.disabled = propagation.running;
  $("cancel").disabled = !propagation.running;
  seen.refresh(frame);
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
        const { agreement } = await api.saveMask(number, await api.encode(ids, width, height));
        timeline.agree(number, agreement);
        refresh();
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
    const { agreement } = await api.deleteMask(number);
    timeline.given.delete(number);
    timeline.agree(number, agreement);
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
  active: () => objects.active,
  saved: () => saved,
});

const seen = new Seen({ view, timeline, state, show: () => show(wanted), say });

// Controls

const press = {
  undo: () => step(done, undone), redo: () => step(undone, done), fit: () => view.fit(), add: () => objects.add(), forget,
  cancel: () => propagation.cancel(), play, export: exportMasks,
  previous: () => show(wanted - 1), next: () => show(wanted + 1),
  worst: () => { const worst = timeline.leastCertain(); if (worst !== null) show(worst); },
  differ: () => { const worst = timeline.leastAgreed(); if (worst !== null) show(worst); },
};
for (const [id, action] of Object.entries(press)) $(id).addEventListener("click", action);
for (const button of document.querySelectorAll("[data-direction]")) {
  button.addEventListener("click", () => propagation.start(button.dataset.direction));
}

const keys = {
  b: "brush", e: "eraser", p: "polygon", x: "box", c: "click", h: "pan",
};
addEventListener("keydown", (event) => {
  if (event.target.matches("select, input:not([type=range]):not([type=checkbox])")) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z") (event.shiftKey ? press.redo : press.undo)();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (keys[key]) tools.choose(keys[key]);
  else if (key === "arrowleft") show(wanted - 1);
  else if (key === "arrowright") show(wanted + 1);
  else if (key === " ") play();
  else if (key === "u") press.worst();
  else if (key === "d") press.differ();
  else if (key === "0") view.fit();
  else if (key === "enter" || key === "escape") tools.key(key);
  else if (key === "[" || key === "]") $("brush").value = Number($("brush").value) + (key === "]" ? 4 : -4);
  else if (objects.all.some((one) => String(one.id) === key)) objects.choose(Number(key));
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
objects.draw();
if (!objects.all.length) await objects.add();
await show(timeline.given.values().next().value ?? 0);
view.fit();
propagation.follow(state);
document.body.dataset.ready = "true";
