"use strict";
// What both pages share: elements from data (as text, never as markup), numbers, the theme, sortable tables.

const find = (selector) => document.querySelector(selector);
const data = JSON.parse(find("#data").textContent);
const SVG_NAMES = new Set(["svg", "path", "line", "rect", "title"]);

function make(name, attributes = {}, ...children) {
  const node = SVG_NAMES.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function shown(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-GB");
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return value.toExponential(1);
  return value.toFixed(Math.abs(value) >= 100 ? 1 : digits);
}

const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(2)} %`);

function attached(name) {
  for (const node of document.querySelectorAll("script.attached")) {
    if (node.dataset.name === name) return JSON.parse(node.textContent);
  }
  return null;
}

// Where a page is, as its address holds it: parts of any text, between slashes.
const address = (...parts) => `#${parts.map(encodeURIComponent).join("/")}`;

function addressed(hash) {
  return hash
    .slice(1)
    .split("/")
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
}

let addressTimer = 0;

function setAddress(hash) {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", hash), 150); // browsers count such calls
}

function bytes(base64) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found.buffer;
}

function facts(node, pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  node.replaceChildren(
    ...known.map(([name, value]) => {
      const text = String(value);
      return make("div", { class: text.length > 24 ? "long" : null }, make("dt", {}, name), make("dd", {}, text));
    }),
  );
}

// --- theme -----------------------------------------------------------------------------------------------------

const theme = find("#theme");

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-pressed", String(name === "dark"));
}

function stored(value) {
  try {
    if (value) localStorage.setItem("dmask-theme", value);
    return localStorage.getItem("dmask-theme");
  } catch {
    return null; // pages from a file may have no storage
  }
}

setTheme(stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
theme.addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  stored(document.documentElement.dataset.theme);
});

// --- tables ----------------------------------------------------------------------------------------------------

const ROWS_AT_ONCE = 200;

class SortedTable {
  // columns: {key, title, help, text, format, link}; rows: objects. More rows are drawn when the last comes near.
  constructor(region, columns, rows, { sort = null, direction = 1, current = () => false } = {}) {
    this.columns = columns;
    this.rows = rows.map((row, place) => ({ row, place }));
    this.current = current;
    this.body = make("tbody");
    this.heads = columns.map((column) => this.head(column));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    this.end = make("div");
    region.replaceChildren(table, this.end);
    new IntersectionObserver(([entry]) => entry.isIntersecting && this.more(), { root: region }).observe(this.end);
    this.sort(sort ?? columns[0].key, direction);
  }

  head(column) {
    const button = make("button", { type: "button", title: column.help, click: () => this.toggle(column) }, column.title);
    return make("th", { scope: "col", class: column.text ? "text" : null }, button);
  }

  toggle(column) {
    const first = column.text || column === this.columns[0] ? 1 : -1; // the largest numbers come first
    this.sort(column.key, this.key === column.key ? -this.direction : first);
  }

  sort(key, direction) {
    this.key = key;
    this.direction = direction;
    const empty = (value) => value === null || value === undefined;
    this.rows.sort((one, other) => {
      const a = one.row[key];
      const b = other.row[key];
      if (empty(a) || empty(b)) return empty(a) - empty(b) || one.place - other.place;
      const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return direction * order || one.place - other.place;
    });
    this.columns.forEach((column, i) => {
      this.heads[i].setAttribute("aria-sort", column.key !== key ? "none" : direction > 0 ? "ascending" : "descending");
    });
    this.body.replaceChildren();
    this.more();
  }

  more(to = 0) {
    const from = this.body.childElementCount;
    to = Math.max(to, from + ROWS_AT_ONCE);
    this.body.append(...this.rows.slice(from, to).map(({ row }) => this.line(row)));
  }

  line(row) {
    const cells = this.columns.map((column) => {
      const text = (column.format ?? shown)(row[column.key]);
      const link = column.link?.(row);
      const content = link ? make("a", { href: link }, text) : text;
      return make("td", { class: column.text ? "text" : null, title: column.text ? text : null }, content);
    });
    return make("tr", { "aria-current": this.current(row) ? "true" : null }, ...cells);
  }

  mark() {
    const at = this.rows.findIndex(({ row }) => this.current(row));
    if (at >= this.body.childElementCount) this.more(at + 20);
    for (const [i, node] of [...this.body.children].entries()) {
      if (i === at) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
    return this.body.children[at];
  }
}
