"use strict";
// The player: frames as the dataset holds them (WebP, PNG), decoded by the browser, with a mask over them.

const BITMAPS = 400; // decoded pictures that are kept
const CHUNKS = 12; // and packed runs of frames

class Frames {
  // The pictures of one episode, in chunks of `size` frames that `load(k)` gives, each as `pack` of pack.py.
  constructor(length, size, load) {
    this.length = length;
    this.size = size;
    this.load = load;
    this.chunks = new Map();
    this.bitmaps = new Map();
  }

  // The promise `value()`, kept under a key; of more than `most` the one that was used longest ago is dropped.
  static recent(map, key, most, value, drop = () => {}) {
    let found = map.get(key);
    if (!found) {
      found = value();
      found.catch(() => map.delete(key)); // and is asked for again
    }
    map.delete(key);
    map.set(key, found);
    for (const [old, dropped] of map) {
      if (map.size <= most) break;
      map.delete(old);
      drop(dropped);
    }
    return found;
  }

  chunk(k) {
    return Frames.recent(this.chunks, k, CHUNKS, () => this.load(k).then(Frames.unpack));
  }

  static unpack(buffer) {
    const size = new DataView(buffer).getUint32(0, true);
    const columns = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
    let start = 4 + size;
    const found = {};
    for (const [name, sizes] of Object.entries(columns)) {
      found[name] = sizes.map((length) => {
        start += length;
        return new Uint8Array(buffer, start - length, length);
      });
    }
    return found;
  }

  bitmap(column, t) {
    const decode = async () => {
      const pictures = (await this.chunk(Math.floor(t / this.size)))[column];
      return createImageBitmap(new Blob([pictures[t % this.size]]));
    };
    const close = (dropped) => dropped.then((bitmap) => bitmap.close(), () => {});
    return Frames.recent(this.bitmaps, `${column} ${t}`, BITMAPS, decode, close);
  }
}

class Player {
  // `onFrame(t)` is told of every frame that is shown.
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.t = 0;
    this.playing = false;
    this.scratch = document.createElement("canvas");
    this.parts = Object.fromEntries(
      ["views", "play", "scrub", "clock", "speed", "masked", "which", "opacity", "colour"].map((id) => [id, find(`#${id}`)]),
    );
    this.parts.play.addEventListener("click", () => this.toggle());
    find("#back").addEventListener("click", () => this.step(-1));
    find("#forward").addEventListener("click", () => this.step(1));
    this.parts.scrub.addEventListener("input", () => this.seek(Number(this.parts.scrub.value)));
    this.parts.speed.addEventListener("change", () => this.restart());
    for (const id of ["masked", "which", "opacity", "colour"]) this.parts[id].addEventListener("input", () => this.draw());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  // An episode: {frames, length, fps, views: [{image, mask, label}], masks: {column: label} for the first view}.
  show(episode, t = 0) {
    this.pause();
    this.episode = episode;
    this.note("");
    const { views, which, scrub } = this.parts;
    this.canvases = episode.views.map(() => make("canvas", { width: 1, height: 1, role: "img" }));
    views.replaceChildren(
      ...episode.views.map((view, i) => make("figure", {}, this.canvases[i], make("figcaption", {}, view.label))),
    );
    const masks = Object.entries(episode.masks);
    const chosen = which.value;
    which.replaceChildren(...masks.map(([value, label]) => make("option", { value, selected: value === chosen }, label)));
    find("#which-field").hidden = masks.length < 2;
    find("#overlay").hidden = !masks.length;
    scrub.max = episode.length - 1;
    this.seek(t);
  }

  // Without frames, why there are none.
  note(text) {
    find("#player-note").textContent = text;
    find("#player-note").hidden = !text;
  }

  empty(text) {
    this.pause();
    this.episode = null;
    this.parts.views.replaceChildren();
    this.note(text);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.episode) return;
    const own = event.target.closest("input, select, textarea, [tabindex]"); // they have keys of their own
    if (own && !(event.key === " " && own.type === "range")) return;
    if (event.key === " " && event.target.closest("button, summary")) return;
    const acts = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(event.shiftKey ? -10 : -1),
      ArrowRight: () => this.step(event.shiftKey ? 10 : 1),
      Home: () => this.seek(0),
      End: () => this.seek(this.episode.length - 1),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.episode) return;
    if (this.t >= this.episode.length - 1) this.seek(0);
    this.playing = true;
    this.parts.play.textContent = "Pause";
    this.restart();
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    this.playing = false;
    this.parts.play.textContent = "Play";
    if (this.episode) this.onFrame(this.t, false);
  }

  restart() {
    this.began = performance.now();
    this.from = this.t;
  }

  tick(now) {
    if (!this.playing) return;
    const passed = ((now - this.began) / 1000) * this.episode.fps * Number(this.parts.speed.value);
    const t = Math.min(this.episode.length - 1, this.from + Math.max(0, Math.floor(passed)));
    if (t !== this.t && !this.drawing) this.go(t);
    if (this.t >= this.episode.length - 1) this.pause();
    else requestAnimationFrame((later) => this.tick(later));
  }

  step(by) {
    this.pause();
    this.seek(this.t + by);
  }

  seek(t) {
    if (!this.episode) return;
    this.go(Math.min(this.episode.length - 1, Math.max(0, Math.round(t))));
    this.restart();
  }

  go(t) {
    this.t = t;
    const { length, fps } = this.episode;
    const { scrub, clock } = this.parts;
    scrub.value = t;
    scrub.setAttribute("aria-valuetext", `frame ${t} of ${length - 1}`);
    clock.value = `${t} / ${length - 1}  ${(t / fps).toFixed(2)} s`;
    this.onFrame(t, this.playing);
    this.draw();
  }

  async draw() {
    this.stale = true;
    if (this.drawing) return;
    this.drawing = true;
    while (this.stale && this.episode) {
      this.stale = false;
      const { episode, t } = this;
      try {
        const pictures = await Promise.all(episode.views.map((view, i) => this.pictures(view, i, t)));
        if (episode !== this.episode) continue;
        pictures.forEach(([image, mask], i) => this.paint(this.canvases[i], image, mask));
        this.canvases.forEach((canvas, i) => canvas.setAttribute("aria-label", `${episode.views[i].label}, frame ${t}`));
        this.parts.views.dataset.painted = t;
      } catch (error) {
        if (episode === this.episode) this.note(`Frame ${t} can't be shown: ${error.message}`);
      }
      this.ahead(episode, t);
    }
    this.drawing = false;
  }

  ahead(episode, t) {
    const next = Math.min(episode.length - 1, t + Math.ceil(episode.frames.size / 2));
    episode.frames.chunk(Math.floor(next / episode.frames.size)).catch(() => {});
    if (!this.playing) return;
    for (let k = t + 1; k <= Math.min(t + 4, episode.length - 1); k++) {
      for (const [i, view] of episode.views.entries()) this.pictures(view, i, k).catch(() => {});
    }
  }

  pictures(view, i, t) {
    const mask = i === 0 && this.parts.which.value ? this.parts.which.value : view.mask;
    const columns = [view.image, this.parts.masked.checked ? mask : null];
    return Promise.all(columns.map((column) => (column ? this.episode.frames.bitmap(column, t) : null)));
  }

  paint(canvas, image, mask) {
    if (canvas.width !== image.width || canvas.height !== image.height) {
      canvas.width = image.width;
      canvas.height = image.height;
    }
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    if (!mask) return;
    this.scratch.width = mask.width;
    this.scratch.height = mask.height;
    const layer = this.scratch.getContext("2d", { willReadFrequently: true });
    layer.drawImage(mask, 0, 0);
    const pixels = layer.getImageData(0, 0, mask.width, mask.height);
    const opacity = 2.55 * Number(this.parts.opacity.value);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(this.parts.colour.value.slice(at, at + 2), 16));
    for (let i = 0; i < pixels.data.length; i += 4) {
      const on = pixels.data[i] > 127;
      pixels.data.set([red, green, blue, on ? opacity : 0], i);
    }
    layer.putImageData(pixels, 0, 0);
    context.drawImage(this.scratch, 0, 0);
  }
}
