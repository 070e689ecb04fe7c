// The strip under the frame: masks made by hand, predicted frames, their uncertainty, the agreement of two models, and
// the current frame.

const UNSURE = 0.3; // 30 % of an object's pixels are far off

export class Timeline {
  constructor(canvas, count, seek) {
    this.canvas = canvas;
    this.count = count;
    this.given = new Set();
    this.predicted = new Set();
    this.uncertainty = new Map();
    this.agreement = new Map();
    const go = (event) => {
      const box = canvas.getBoundingClientRect();
      seek(Math.min(count - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * count))));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
  }

  // Note how far two models agree in a frame; null where one of them has no mask.
  agree(frame, value) {
    if (value === null) this.agreement.delete(frame); else this.agreement.set(frame, value);
  }

  leastCertain() {
    let worst = null;
    for (const [frame, value] of this.uncertainty) {
      if (!this.given.has(frame) && (worst === null || value > this.uncertainty.get(worst))) worst = frame;
    }
    return worst;
  }

  leastAgreed() {
    let worst = null;
    for (const [frame, value] of this.agreement) {
      if (worst === null || value < this.agreement.get(worst)) worst = frame;
    }
    return worst;
  }

  // The largest value of the frames in each column of pixels; NaN where none of them has one.
  columns(entries, width) {
    const { count } = this, found = new Float32Array(width).fill(NaN);
    for (const [frame, value] of entries) {
      const left = Math.floor(frame / count * width), right = Math.max(left + 1, Math.ceil((frame + 1) / count * width));
      for (let x = left; x < right && x < width; x++) if (!(found[x] >= value)) found[x] = value;
    }
    return found;
  }

  draw(current) {
    const { canvas, count } = this;
    const scale = devicePixelRatio, width = canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = 46 * scale;
    const context = canvas.getContext("2d");
    const bars = (entries, style) => this.columns(entries, width).forEach((value, x) => {
      if (Number.isNaN(value)) return;
      const [color, top, height] = style(value);
      context.fillStyle = color;
      context.fillRect(x, top * scale, 1, height * scale);
    });
    const hue = (level) => `hsl(${Math.round(110 * (1 - level))} 80% 50%)`;
    context.fillStyle = "#20252c";
    context.fillRect(0, 14 * scale, width, 20 * scale);
    bars([...this.predicted].map((frame) => [frame, 1]), () => ["#2f6f5b", 14, 20]);
    bars(this.uncertainty, (value) => {
      const level = Math.min(1, value / UNSURE);
      return [hue(level), 34 - 20 * level, 20 * level];
    });
    bars([...this.agreement].map(([frame, value]) => [frame, 1 - value]), (value) => [hue(value), 37, 6]);
    context.fillStyle = "#fff";
    for (const frame of this.given) {
      const x = (frame + 0.5) / count * width;
      context.beginPath();
      context.moveTo(x, 13 * scale);
      context.lineTo(x - 5 * scale, 4 * scale);
      context.lineTo(x + 5 * scale, 4 * scale);
      context.fill();
    }
    context.fillStyle = "#4aa8ff";
    context.fillRect((current + 0.5) / count * width - scale, 2 * scale, 2 * scale, 42 * scale);
  }
}
