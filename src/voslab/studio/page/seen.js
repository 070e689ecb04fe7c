// What is shown besides the mask: the mask of a second model, and what the method computed inside.

import * as api from "./api.js";
import { Mask } from "./mask.js";

const $ = (id) => document.getElementById(id);

export class Seen {
  constructor(page) {
    this.page = page; // view, timeline, state, show, say
    const { view, timeline, state: { compared, internals } } = page;
    if (compared) {
      view.second = new Mask(view.mask.width, view.mask.height, view.mask.color);
      view.titles = ["first", compared.name];
      timeline.agreement = new Map(compared.agreement);
      $("comparison").hidden = false;
      $("with-second").hidden = !compared.ready;
      $("second-name").textContent = compared.name;
      $("compare").addEventListener("change", () => {
        $("line").hidden = $("compare").value !== "wipe";
        view.compare($("compare").value);
        page.show();
      });
      $("wipe").addEventListener("input", () => { view.wipe = Number($("wipe").value) / 100; view.draw(); });
    }
    $("inside").hidden = !internals.length;
    $("internals").append(...internals.map((name) => new Option(name, name)));
    $("internals").addEventListener("change", page.show);
  }

  // Load what is shown besides a frame and its mask.
  async load(frame) {
    const name = $("internals").value;
    const [second, inside] = await Promise.all([
      $("compare").value === "off" ? null : api.loadSecond(frame),
      name ? api.loadInternal(name, frame) : null,
    ]);
    if (name && !inside) this.page.say(`no ${name} is recorded for frame ${frame}: record, and go forward`);
    return { second, inside };
  }

  show({ second, inside }) {
    const { view } = this.page;
    if (view.second) view.second.set(second);
    if (inside) view.image = inside;
    view.masks = !inside;
  }

  refresh(frame) {
    const value = this.page.timeline.agreement.get(frame);
    $("agreement").textContent = value === undefined ? "" : `agreement in this frame: IoU ${value.toFixed(2)}`;
    $("differ").disabled = !this.page.timeline.agreement.size;
  }
}
