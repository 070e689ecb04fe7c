// The strip under the frame: masks made by hand, predicted frames, their uncertainty, and the current frame.

export class Timeline {
  constructor(canvas, count, seek) {
    this.canvas = canvas;
    this.count = count;
    this.given = new Set();
    this.predicted = new Set();
    this.uncertainty = new Map();
    const go = (event) => {
      const box = canvas.getBoundingClientRect();
      seek(Math.min(count - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * count))));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) go(event); });
  }

  leastCertain() {
    let worst = null;
    for (const [frame, value] of this.uncertainty) {
      if (!this.given.has(frame) && (worst === null || value > this.uncertainty.get(worst))) worst = frame;
    }
    return worst;
  }

  draw(current) {
    const { canvas, count } = this;
    const scale = devicePixelRatio, width = canvas.width = canvas.clientWidth * scale, height = canvas.height = 46 * scale;
    const context = canvas.getContext("2d");
    const at = (frame) => frame / count * width, wide = Math.max(1, width / count);
    context.fillStyle = "#20252c";
    context.fillRect(0, 14 * scale, width, 20 * scale);
    context.fillStyle = "#2f6f5b";
    for (const frame of this.predicted) context.fillRect(at(frame), 14 * scale, wide, 20 * scale);
    for (const [frame, value] of this.uncertainty) {
      const level = Math.min(1, value / 0.3); // 30 % of an object's pixels are far off
      context.fillStyle = `hsl(${Math.round(110 * (1 - level))} 80% 50%)`;
      context.fillRect(at(frame), (34 - 20 * level) * scale, wide, 20 * level * scale);
    }
    context.fillStyle = "#fff";
    for (const frame of this.given) {
      context.beginPath();
      const x = at(frame + 0.5);
      context.moveTo(x, 13 * scale);
      context.lineTo(x - 5 * scale, 4 * scale);
      context.lineTo(x + 5 * scale, 4 * scale);
      context.fill();
    }
    context.fillStyle = "#4aa8ff";
    context.fillRect(at(current + 0.5) - scale, 2 * scale, 2 * scale, 42 * scale);
  }
}
