// The tools: what a pointer does on the frame.

import * as api from "./api.js";

export class Tools {
  constructor(page) {
    this.page = page;
    this.name = "box";
    this.pressed = null; // where the pointer went down
    this.last = null;
    this.corners = []; // of the polygon
    this.prompt = null; // box and clicks on one object of one frame, and the mask before them
    const { canvas } = page.view;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => { this.pressed = null; });
    canvas.addEventListener("pointerleave", () => { this.last = null; page.view.draw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.choose(button.dataset.tool));
    }
    page.view.preview = (context, zoom) => this.preview(context, zoom);
    this.choose("box");
  }

  choose(name) {
    this.name = name;
    this.corners = [];
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.classList.toggle("active", button.dataset.tool === name);
    }
    this.page.view.canvas.style.cursor = name === "pan" ? "grab" : "crosshair";
    this.page.view.draw();
  }

  // The frame or the object changes: what is unfinished is discarded.
  leave() {
    this.prompt = null;
    this.corners = [];
    this.pressed = null;
  }

  get radius() {
    return Number(document.getElementById("brush").value) / 2;
  }

  down(event) {
    const { view, remember, active, say } = this.page;
    view.canvas.focus();
    view.canvas.setPointerCapture(event.pointerId);
    const pan = this.name === "pan" || event.button === 1;
    this.pressed = { ...view.point(event), screen: [event.clientX, event.clientY], view: [view.x, view.y], pan };
    this.last = this.pressed;
    if (pan) return;
    if (active() === null) {
      say("add an object first", true);
      this.pressed = null;
    } else if (this.name === "brush" || this.name === "eraser") {
      this.prompt = null;
      remember();
      this.draw(this.pressed, this.pressed);
    }
  }

  move(event) {
    const { view } = this.page;
    const before = this.last;
    this.last = view.point(event);
    if (this.pressed?.pan) {
      view.x = this.pressed.view[0] + event.clientX - this.pressed.screen[0];
      view.y = this.pressed.view[1] + event.clientY - this.pressed.screen[1];
    } else if (this.pressed && (this.name === "brush" || this.name === "eraser")) {
      this.draw(before ?? this.last, this.last);
    }
    view.draw();
  }

  up(event) {
    const { view, save } = this.page;
    const start = this.pressed;
    if (!start) return;
    const point = view.point(event);
    this.pressed = null;
    if (start.pan) return;
    if (this.name === "brush" || this.name === "eraser") save();
    else if (this.name === "polygon") this.corner(point);
    else if (this.name === "click") this.click(point, event.button !== 2 && !event.altKey);
    else if (Math.abs(point.x - start.x) > 2 && Math.abs(point.y - start.y) > 2) this.box(start, point);
    else this.click(point, event.button !== 2 && !event.altKey);
    view.draw();
  }

  key(name) {
    const { mask, remember, save, active, view } = this.page;
    if (name === "enter" && this.corners.length > 2) {
      remember();
      mask.fillPolygon(this.corners, active());
      save();
    }
    this.corners = [];
    view.draw();
  }

  draw(from, to) {
    const { mask, active, view } = this.page;
    if (this.name === "brush") mask.stroke(from, to, this.radius, active());
    else mask.stroke(from, to, this.radius, 0, active());
    view.draw();
  }

  // A click near the first corner closes the polygon.
  corner(point) {
    const first = this.corners[0];
    const near = first && Math.hypot(point.x - first.x, point.y - first.y) * this.page.view.zoom < 8;
    if (near && this.corners.length > 2) this.key("enter"); else this.corners.push(point);
  }

  box(from, to) {
    const box = [Math.min(from.x, to.x), Math.min(from.y, to.y), Math.max(from.x, to.x) + 1, Math.max(from.y, to.y) + 1];
    this.start(false);
    this.prompt.box = box;
    return this.propose();
  }

  click({ x, y }, positive) {
    const { mask, active } = this.page;
    if (!this.prompt) this.start(mask.ids.includes(active()));
    this.prompt.clicks.push({ x, y, positive });
    return this.propose();
  }

  start(refine) {
    const { mask, frame, active } = this.page;
    this.prompt = { frame: frame(), object: active(), refine, box: null, clicks: [], base: mask.ids.slice() };
  }

  async propose() {
    const { mask, attempt, remember, save, say, saved, view } = this.page;
    const prompt = this.prompt;
    const { base, ...values } = prompt;
    await saved(); // refining starts from the stored mask
    say("looking for the object …");
    const proposal = await attempt(() => api.propose(values));
    if (!proposal || this.prompt !== prompt) return;
    remember();
    mask.replace(base, proposal, prompt.object);
    view.draw();
    await save();
  }

  preview(context, zoom) {
    const { last, pressed, corners, prompt } = this;
    context.strokeStyle = "#fff";
    if (this.name === "box" && pressed && last && !pressed.pan) {
      context.strokeRect(pressed.x, pressed.y, last.x - pressed.x, last.y - pressed.y);
    } else if ((this.name === "brush" || this.name === "eraser") && last) {
      context.beginPath();
      context.arc(last.x, last.y, this.radius, 0, 2 * Math.PI);
      context.stroke();
    } else if (this.name === "polygon" && corners.length) {
      context.beginPath();
      for (const { x, y } of last ? [...corners, last] : corners) context.lineTo(x, y);
      context.stroke();
      for (const { x, y } of corners) context.strokeRect(x - 3 / zoom, y - 3 / zoom, 6 / zoom, 6 / zoom);
    }
    for (const { x, y, positive } of prompt?.clicks ?? []) {
      context.fillStyle = positive ? "#3fd07f" : "#ff5c5c";
      context.beginPath();
      context.arc(x, y, 5 / zoom, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  }
}
