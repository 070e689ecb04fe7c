// The frame with its masks: zoom, pan, two masks side by side or divided by a line, and the mapping between the screen
// and the pixels of the video.

export class View {
  constructor(canvas, mask) {
    this.canvas = canvas;
    this.mask = mask;
    this.second = null; // the other mask, where one is compared
    this.mode = "off"; // off, side or wipe
    this.wipe = 0.5; // where the line is, as a fraction of the width
    this.titles = ["", ""];
    this.image = null;
    this.masks = true; // whether masks are drawn
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.preview = () => {}; // draws what the tool is doing, in pixels of the video
    this.pending = false;
    new ResizeObserver(() => this.fit()).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const point = this.point(event);
      const zoom = Math.min(40, Math.max(this.panel().zoom, this.zoom * 1.0015 ** -event.deltaY));
      this.x += point.x * (this.zoom - zoom);
      this.y += point.y * (this.zoom - zoom);
      this.zoom = zoom;
      this.draw();
    }, { passive: false });
  }

  // Size of a panel, the zoom at which the frame fits into it, and the offset of the second panel.
  panel() {
    const { canvas: { clientWidth, clientHeight }, mask } = this;
    const fitted = (across, down) => {
      const width = clientWidth / across, height = clientHeight / down;
      return {
        width, height, right: across > 1 ? width : 0, below: down > 1 ? height : 0,
        zoom: Math.min(width / mask.width, height / mask.height) || 1,
      };
    };
    if (this.mode !== "side") return fitted(1, 1);
    const [beside, below] = [fitted(2, 1), fitted(1, 2)];
    return beside.zoom >= below.zoom ? beside : below;
  }

  fit() {
    const { width, height, zoom } = this.panel();
    this.zoom = zoom;
    this.x = (width - this.mask.width * zoom) / 2;
    this.y = (height - this.mask.height * zoom) / 2;
    this.draw();
  }

  compare(mode) {
    this.mode = mode;
    this.fit();
  }

  // Pixel of the video under the pointer, in either panel. Pixel centres are whole numbers.
  point(event) {
    const box = this.canvas.getBoundingClientRect(), { right, below } = this.panel();
    let x = event.clientX - box.left, y = event.clientY - box.top;
    if (right && x >= right) x -= right;
    if (below && y >= below) y -= below;
    return { x: (x - this.x) / this.zoom - 0.5, y: (y - this.y) / this.zoom - 0.5 };
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const { canvas, zoom, x, y, mode } = this, scale = devicePixelRatio;
      const { width, height, right, below } = this.panel();
      canvas.width = canvas.clientWidth * scale;
      canvas.height = canvas.clientHeight * scale;
      Object.assign(canvas.dataset, { zoom, x, y, mode }); // for tests and scripts
      const context = canvas.getContext("2d");
      const line = this.wipe * canvas.clientWidth;
      this.part(context, scale, [0, 0], [0, 0, mode === "wipe" ? line : width, height], this.mask.layer, this.titles[0]);
      if (mode === "side") {
        this.part(context, scale, [right, below], [right, below, width, height], this.second.layer, this.titles[1]);
      } else if (mode === "wipe") {
        this.part(context, scale, [0, 0], [line, 0, width - line, height], this.second.layer, this.titles[1]);
        context.fillStyle = "#fff";
        context.fillRect(line * scale - 1, 0, 2, canvas.height);
      }
    });
  }

  // Draw the frame with a layer within a rectangle of the canvas.
  part(context, scale, [right, below], [left, top, width, height], layer, title) {
    const { mask, zoom, image } = this;
    context.save();
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.save();
    context.translate(right + this.x, below + this.y);
    context.scale(zoom, zoom);
    context.imageSmoothingEnabled = zoom < 3;
    if (image) context.drawImage(image, 0, 0, mask.width, mask.height);
    if (this.masks) context.drawImage(layer, 0, 0);
    context.translate(0.5, 0.5);
    context.lineWidth = 2 / zoom;
    this.preview(context, zoom);
    context.restore();
    if (this.mode !== "off") {
      context.font = "13px system-ui, sans-serif";
      context.fillStyle = "#000a";
      context.fillRect(left, top, context.measureText(title).width + 12, 22);
      context.fillStyle = "#fff";
      context.fillText(title, left + 6, top + 15);
    }
    context.restore();
  }
}
