// A label map with its coloured layer, and the operations of the tools on it.

export class Mask {
  constructor(width, height, color) {
    this.width = width;
    this.height = height;
    this.color = color; // id -> [r, g, b]
    this.ids = new Uint8Array(width * height);
    this.layer = new OffscreenCanvas(width, height);
    this.context = this.layer.getContext("2d");
  }

  set(ids) {
    if (ids) this.ids.set(ids); else this.ids.fill(0);
    this.paint(0, 0, this.width, this.height);
  }

  // Draw the layer within a rectangle: objects half transparent, their outlines opaque.
  paint(left, top, right, bottom) {
    const { width, height, ids } = this;
    left = Math.max(0, Math.floor(left) - 1); top = Math.max(0, Math.floor(top) - 1);
    right = Math.min(width, Math.ceil(right) + 1); bottom = Math.min(height, Math.ceil(bottom) + 1);
    if (right <= left || bottom <= top) return;
    const image = new ImageData(right - left, bottom - top);
    for (let y = top, k = 0; y < bottom; y++) {
      for (let x = left; x < right; x++, k += 4) {
        const i = y * width + x, id = ids[i];
        if (!id) continue;
        const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
          ids[i - 1] !== id || ids[i + 1] !== id || ids[i - width] !== id || ids[i + width] !== id;
        [image.data[k], image.data[k + 1], image.data[k + 2]] = this.color(id);
        image.data[k + 3] = edge ? 255 : 115;
      }
    }
    this.context.putImageData(image, left, top);
  }

  // Paint a stroke of the brush from one point to another; id 0 erases, and only pixels of `only` if it is given.
  stroke(from, to, radius, id, only) {
    const { width, height, ids } = this;
    const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
    const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
    const right = Math.min(width, Math.ceil(Math.max(from.x, to.x) + radius) + 1);
    const bottom = Math.min(height, Math.ceil(Math.max(from.y, to.y) + radius) + 1);
    const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const t = length ? Math.min(1, Math.max(0, ((x - from.x) * dx + (y - from.y) * dy) / length)) : 0;
        const ex = x - from.x - t * dx, ey = y - from.y - t * dy;
        const i = y * width + x;
        if (ex * ex + ey * ey <= radius * radius && (only === undefined || ids[i] === only)) ids[i] = id;
      }
    }
    this.paint(left, top, right, bottom);
  }

  fillPolygon(points, id) {
    const context = new OffscreenCanvas(this.width, this.height).getContext("2d", { willReadFrequently: true });
    context.beginPath();
    for (const { x, y } of points) context.lineTo(x + 0.5, y + 0.5);
    context.fill("evenodd");
    const { data } = context.getImageData(0, 0, this.width, this.height);
    for (let i = 0; i < this.ids.length; i++) if (data[4 * i + 3] > 127) this.ids[i] = id;
    this.paint(0, 0, this.width, this.height);
  }

  // Replace an object by a proposal. Other objects keep their pixels.
  replace(base, proposal, id) {
    for (let i = 0; i < this.ids.length; i++) {
      const others = base[i] !== 0 && base[i] !== id;
      this.ids[i] = others ? base[i] : proposal[i] ? id : 0;
    }
    this.paint(0, 0, this.width, this.height);
  }
}
