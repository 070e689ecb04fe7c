// The list of objects: names, colours, and which one the tools work on.

import * as api from "./api.js";

export class Objects {
  constructor(page, list, objects) {
    this.page = page; // attempt, leave, repaint
    this.list = list;
    this.all = objects;
    this.active = objects[0]?.id ?? null;
    this.colors = new Map();
  }

  color(id) {
    if (!this.colors.has(id)) {
      const text = this.all.find((one) => one.id === id)?.color ?? "#ffffff";
      this.colors.set(id, [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
    }
    return this.colors.get(id);
  }

  draw() {
    this.colors.clear();
    this.list.replaceChildren(...this.all.map((one) => {
      const item = document.createElement("li");
      const swatch = document.createElement("button");
      const name = document.createElement("input");
      item.classList.toggle("active", one.id === this.active);
      item.dataset.object = one.id;
      swatch.className = "swatch";
      swatch.style.background = one.color;
      swatch.title = `object ${one.id}: key ${one.id}`;
      swatch.setAttribute("aria-label", `Choose object ${one.id}`);
      name.value = one.name;
      name.maxLength = 80;
      name.setAttribute("aria-label", `Name of object ${one.id}`);
      item.addEventListener("click", () => this.choose(one.id));
      name.addEventListener("change", () => this.change(this.all.map((other) =>
        other.id === one.id ? { ...other, name: name.value || one.name } : other)));
      item.append(swatch, name);
      return item;
    }));
  }

  choose(id) {
    if (this.active !== id) this.page.leave();
    this.active = id;
    for (const item of this.list.children) item.classList.toggle("active", Number(item.dataset.object) === id);
  }

  async change(next) {
    const answer = await this.page.attempt(() => api.saveObjects(next.map(({ id, name }) => ({ id, name }))));
    if (answer) this.all = answer;
    this.draw();
    this.page.repaint();
  }

  async add() {
    const id = Math.max(0, ...this.all.map((one) => one.id)) + 1;
    await this.change([...this.all, { id, name: `object ${id}` }]);
    if (this.all.some((one) => one.id === id)) this.choose(id);
  }
}
