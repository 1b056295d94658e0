"use strict";
// Line plots with a cursor, and histograms, as SVG: they take the colours of the theme and need no library.

const COLOURS = 8;

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

// A number at the end of an axis, as finely as the axis is long.
function bound(value, span) {
  if (Math.abs(value) >= 1e5) return value.toExponential(1);
  return String(Number(value.toFixed(Math.min(4, Math.max(0, 1 - Math.floor(Math.log10(span)))))));
}

class Plot {
  // lines: {name, x (optional: 0, 1, …), y, colour, dashed}; `seek` is called with x where the plot is pressed, and
  // with `hover` wherever the pointer is.
  constructor(container, { title, lines, range = null, seek = null, tall = false, ticks = null, logarithmic = false, hover = false }) {
    this.lines = lines;
    this.scale = logarithmic ? (value) => (value > 0 ? Math.log10(value) : null) : (value) => value;
    const xs = lines.flatMap((line) => (line.x ? extent(line.x) : [0, Math.max(line.y.length - 1, 1)]));
    this.x = extent(xs);
    this.y = range ?? extent(lines.flatMap((line) => extent(line.y.map(this.scale))));
    this.cursor = make("line", { y1: 0, y2: 100, x1: 0, x2: 0, visibility: "hidden" });
    this.legend = make("div", { class: "legend" });
    this.values = lines.map((line, i) => {
      const value = make("span", {});
      const named = lines.length > 1 ? [make("i", { class: this.colour(line, i) }), line.name] : [];
      this.legend.append(make("span", {}, ...named, " ", value));
      return value;
    });
    const svg = this.draw(title, seek, hover);
    const [low, high] = this.y.map((value) => (logarithmic ? String(Number((10 ** value).toPrecision(3))) : bound(value, this.y[1] - this.y[0])));
    const node = make(
      "div",
      { class: tall ? "plot tall" : "plot" },
      make("div", { class: "head" }, make("h3", {}, title), this.legend),
      make("div", { class: "bounds", "aria-hidden": "true" }, make("span", {}, high), make("span", {}, low)),
      svg,
    );
    if (ticks) node.append(make("div", { class: "ticks" }, ...ticks.map((tick) => make("span", {}, tick))));
    container.append(node);
  }

  colour(line, i) {
    return `c${(line.colour ?? i) % COLOURS}`;
  }

  place(x) {
    return (1000 * (x - this.x[0])) / (this.x[1] - this.x[0]);
  }

  height(value) {
    const y = this.scale(value);
    return y === null ? null : 96 - (92 * (y - this.y[0])) / (this.y[1] - this.y[0]);
  }

  draw(title, seek, hover) {
    const description = `${title}: ${this.lines.map((line) => line.name).join(", ")}`;
    const svg = make("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": description });
    if (this.y[0] < 0 && this.y[1] > 0) {
      const zero = this.height(0);
      if (zero !== null) svg.append(make("line", { class: "zero", x1: 0, x2: 1000, y1: zero, y2: zero }));
    }
    this.lines.forEach((line, i) => {
      let path = "";
      let pen = "M";
      line.y.forEach((value, k) => {
        const height = value === null ? null : this.height(value);
        if (height === null) {
          pen = "M";
          return;
        }
        path += `${pen}${this.place(line.x ? line.x[k] : k).toFixed(1)} ${height.toFixed(2)}`;
        pen = "L";
      });
      if (line.y.length === 1) path += "h4";
      svg.append(make("path", { d: path, class: `${this.colour(line, i)}${line.dashed ? " dashed" : ""}` }));
    });
    svg.append(this.cursor);
    if (seek) {
      const follow = (event) => {
        if (event.type === "pointermove" && !event.buttons && !hover) return;
        const box = svg.getBoundingClientRect();
        const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
        seek(this.x[0] + share * (this.x[1] - this.x[0]));
      };
      svg.classList.add("seekable");
      svg.addEventListener("pointerdown", follow);
      svg.addEventListener("pointermove", follow);
    }
    return svg;
  }

  // The index of a line's point that lies nearest to x.
  near(line, x) {
    if (!line.x) return Math.round(x);
    return line.x.reduce((best, one, k) => (Math.abs(one - x) < Math.abs(line.x[best] - x) ? k : best), 0);
  }

  at(x) {
    const place = this.place(x);
    this.cursor.setAttribute("visibility", "visible");
    this.cursor.setAttribute("x1", place);
    this.cursor.setAttribute("x2", place);
    this.lines.forEach((line, i) => {
      this.values[i].textContent = shown(line.y[this.near(line, x)] ?? null);
    });
  }
}

class Histogram {
  constructor(container, { title, values, format = shown }) {
    const found = values.filter((value) => value !== null && value !== undefined);
    const bins = Math.min(30, Math.max(8, Math.ceil(2 * Math.sqrt(found.length))));
    this.range = extent(found);
    this.bins = bins;
    const counts = new Array(bins).fill(0);
    for (const value of found) counts[this.bin(value)]++;
    const most = Math.max(...counts, 1);
    this.bars = counts.map((count, i) => {
      const height = count ? Math.max(2, (100 * count) / most) : 0;
      return make("rect", { x: 10 * i + 0.6, width: 8.8, y: 100 - height, height });
    });
    const [low, high] = extent(found);
    const label = `${title}: ${found.length} values from ${format(low)} to ${format(high)}, at most ${most} in a bar`;
    const view = { viewBox: `0 0 ${10 * bins} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label };
    const ends = make("div", { class: "ends" }, make("span", {}, format(low)), make("span", {}, format(high)));
    container.append(make("figure", {}, make("h3", {}, title), make("svg", view, ...this.bars), ends));
  }

  bin(value) {
    const [low, high] = this.range;
    return Math.min(this.bins - 1, Math.floor((this.bins * (value - low)) / (high - low)));
  }

  mark(value) {
    const mine = value === null || value === undefined ? -1 : this.bin(value);
    this.bars.forEach((bar, i) => bar.classList.toggle("mine", i === mine));
  }
}
