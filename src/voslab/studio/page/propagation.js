// Propagation: starts it, follows it, and shows how far it is.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);

export class Propagation {
  constructor(page, update) {
    this.page = page; // attempt, say, timeline, saved, show, refresh, frame
    this.update = update; // number of updates that are known
    this.running = false;
  }

  async start(direction) {
    await this.page.saved();
    const start = Number($("start").value), end = Number($("end").value);
    const second = $("second-model").checked;
    const internals = $("record").checked && direction === "forward" && !second;
    await this.page.attempt(async () => {
      this.follow(await api.propagate({ direction, start, end, second, internals }));
      this.page.say("");
    });
  }

  async cancel() {
    await this.page.attempt(async () => this.follow(await api.cancel()));
  }

  follow(answer) {
    const { propagation } = answer, { timeline, say, show, refresh, frame } = this.page;
    this.update = answer.update;
    for (const [number, uncertainty, agreement] of answer.updates) {
      if (uncertainty !== null) {
        timeline.predicted.add(number);
        timeline.uncertainty.set(number, uncertainty);
      }
      timeline.agree(number, agreement);
    }
    const last = answer.updates.at(-1)?.[0];
    const before = this.running;
    this.running = propagation.running;
    $("progress").max = Math.max(1, propagation.total);
    $("progress").value = propagation.done;
    const speed = propagation.seconds > 0 ? propagation.done / propagation.seconds : 0;
    const left = speed > 0 ? Math.ceil((propagation.total - propagation.done) / speed) : 0;
    $("speed").textContent = propagation.total
      ? `${propagation.done} of ${propagation.total} frames, ${speed.toFixed(1)} frames/s` + (this.running ? `, ${left} s left` : "")
      : "";
    if (propagation.error) say(propagation.error, true);
    else if (before && !this.running) say(propagation.cancelled ? "cancelled" : "propagated");
    if (last !== undefined && ($("follow").checked || last === frame())) show(last); else refresh();
    if (this.running) setTimeout(() => this.poll(), 400);
  }

  async poll() {
    const answer = await this.page.attempt(() => api.loadProgress(this.update));
    if (answer) this.follow(answer); else setTimeout(() => this.poll(), 2000);
  }
}
