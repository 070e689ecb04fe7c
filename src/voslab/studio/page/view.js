// The frame with its masks: zoom, pan, and the mapping between the screen and the pixels of the video.

export class View {
  constructor(canvas, mask) {
    this.canvas = canvas;
    this.mask = mask;
    this.image = null;
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.preview = () => {}; // draws what the tool is doing, in pixels of the video
    this.pending = false;
    new ResizeObserver(() => this.fit()).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const point = this.point(event);
      const zoom = Math.min(40, Math.max(this.smallest(), this.zoom * 1.0015 ** -event.deltaY));
      this.x += point.x * (this.zoom - zoom);
      this.y += point.y * (this.zoom - zoom);
      this.zoom = zoom;
      this.draw();
    }, { passive: false });
  }

  smallest() {
    const { canvas, mask } = this;
    return Math.min(canvas.clientWidth / mask.width, canvas.clientHeight / mask.height);
  }

  fit() {
    const { canvas, mask } = this;
    this.zoom = this.smallest() || 1;
    this.x = (canvas.clientWidth - mask.width * this.zoom) / 2;
    this.y = (canvas.clientHeight - mask.height * this.zoom) / 2;
    this.draw();
  }

  // Pixel of the video under the pointer. Pixel centres are whole numbers.
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left - this.x) / this.zoom - 0.5, y: (event.clientY - box.top - this.y) / this.zoom - 0.5 };
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const { canvas, mask, zoom, x, y } = this;
      const scale = devicePixelRatio;
      canvas.width = canvas.clientWidth * scale;
      canvas.height = canvas.clientHeight * scale;
      Object.assign(canvas.dataset, { zoom, x, y }); // for tests and scripts
      const context = canvas.getContext("2d");
      context.setTransform(zoom * scale, 0, 0, zoom * scale, x * scale, y * scale);
      context.imageSmoothingEnabled = zoom < 3;
      if (this.image) context.drawImage(this.image, 0, 0, mask.width, mask.height);
      context.drawImage(mask.layer, 0, 0);
      context.translate(0.5, 0.5);
      context.lineWidth = 2 / zoom;
      this.preview(context, zoom);
    });
  }
}
