"use strict";
// Runs of masklam: their curves and measures together, scenes of each model at work, a study's results.

const choice = find("#scene");
const place = find("#where");
let scene = null;
let signals = [];

const player = new Player((t, playing) => {
  for (const plot of signals) plot.at(t);
  if (playing || !scene) return;
  place.textContent = [scene.run, scene.kind, t].join("/");
  setAddress(address(scene.run, scene.kind, t));
});

function showScene(found, t = 0) {
  if (scene === found) {
    player.seek(t);
    return;
  }
  scene = found;
  choice.value = data.scenes.indexOf(found);
  signals = [];
  const area = find("#signals");
  area.replaceChildren();
  area.hidden = !scene.signals.length;
  const held = attached(scene.key);
  const frames = new Frames(scene.length, scene.chunk, async (k) => bytes(held[k]));
  player.show({ ...scene, frames }, t);
  signals = scene.signals.map(
    ({ title, lines, range }) => new Plot(area, { title, lines, range, seek: (x) => player.seek(x) }),
  );
  for (const plot of signals) plot.at(player.t);
}

function follow(hash) {
  const [run, kind, t] = addressed(hash);
  const found = data.scenes.find((one) => one.run === run && one.kind === kind);
  showScene(found ?? data.scenes[0], Number(t || 0) || 0);
}

function showRuns() {
  find("#runs").replaceChildren(
    ...data.runs.map((run, i) => {
      const list = make("dl", { class: "facts" });
      facts(list, run.facts);
      const missing = run.missing.map((what) => make("li", {}, what));
      const name = make("h3", { class: "run" }, make("i", { class: `c${i % COLOURS}` }), run.name);
      return make("article", {}, name, list, missing.length ? make("ul", { class: "plain" }, ...missing) : "");
    }),
  );
}

function showCurves() {
  const area = find("#curves");
  find("#training").hidden = !data.curves.length;
  for (const { title, lines, logarithmic } of data.curves) {
    const last = Math.max(...lines.flatMap(({ x }) => x));
    const ticks = ["0", `step ${shown(last)}`];
    const start = lines.map((line) => ({ ...line, x: [0, ...line.x], y: [null, ...line.y] })); // the axis begins at 0
    const seek = (x) => plot.at(x);
    const plot = new Plot(area, { title, lines: start, logarithmic, ticks, seek, hover: true });
    plot.at(last);
  }
}

// Columns of the measures' table and of the study's.
const MEASURE = { key: "measure", title: "Measure", help: "What was measured", text: true };
const SPLIT = { key: "split", title: "Split", help: "Of the dataset, or of the videos behind the rollouts", text: true };
const SHUFFLED = {
  key: "control",
  title: "Shuffled",
  help: "The same probe on latents of an observation and a random other one",
};

function showMeasures() {
  find("#measured").hidden = !data.measures.length;
  const columns = [
    { key: "run", title: "Run", help: "Its folder", text: true },
    MEASURE,
    SPLIT,
    { key: "value", title: "Value", help: "NMSE: 0 is perfect, 1 no better than the mean" },
    SHUFFLED,
  ];
  new SortedTable(find("#measures"), columns, data.measures, { sort: "measure" });
}

// --- the study -------------------------------------------------------------------------------------------------

const STUDY = [
  { key: "env", title: "Environment", help: "Config of the dataset", text: true },
  { key: "difficulty", title: "Difficulty", help: "Of the distractors", text: true },
  { key: "label", title: "Method", help: "Method and what it was varied in", text: true },
  MEASURE,
  SPLIT,
  { key: "budget", title: "Labels", help: "Labelled trajectories" },
  { key: "seeds", title: "Seeds", help: "Runs that differ in their seed alone" },
  { key: "value", title: "Mean", help: "Interquartile mean over the seeds" },
  { key: "low", title: "Low", help: "95 % bootstrap interval over the seeds" },
  { key: "high", title: "High", help: "95 % bootstrap interval over the seeds" },
  SHUFFLED,
];

function showStudy() {
  find("#study").hidden = false;
  const single = (key) => new Set(data.study.rows.map((row) => row[key])).size < 2;
  const same = ["env", "difficulty"].filter(single); // said once, in the title
  const title = [`Study ${data.study.name}`, ...same.map((key) => data.study.rows[0]?.[key])];
  find("#study-title").textContent = title.join(", ");
  const filters = ["env", "measure", "split"].map((key) => {
    const select = find(`#study-${key}`);
    const values = [...new Set(data.study.rows.map((row) => row[key]))].sort();
    select.append(make("option", { value: "" }, "all"), ...values.map((value) => make("option", { value }, value)));
    select.addEventListener("change", filter);
    select.parentElement.hidden = single(key);
    return [key, select];
  });
  const held = STUDY.filter(({ key }) => !same.includes(key) && data.study.rows.some((row) => row[key] !== null));
  let table = null;
  function filter() {
    const rows = data.study.rows.filter((row) => filters.every(([key, { value }]) => !value || row[key] === value));
    const order = table ? [table.key, table.direction] : ["env", 1];
    table = new SortedTable(find("#study-table"), held, rows, { sort: order[0], direction: order[1] });
    find("#study-note").textContent = `${rows.length} of ${data.study.rows.length} results`;
  }
  filter();
}

// --- all of it -------------------------------------------------------------------------------------------------

showRuns();
showCurves();
showMeasures();
if (data.study) showStudy();
for (const id of ["scene-field", "stage"]) find(`#${id}`).hidden = !data.scenes.length;
find(".columns").hidden = !data.runs.length;
if (!data.scenes.length) find(".columns").classList.add("alone");
choice.append(...data.scenes.map(({ run, title }, i) => make("option", { value: i }, `${run}: ${title}`)));
choice.addEventListener("change", () => showScene(data.scenes[choice.value]));
if (data.scenes.length) {
  addEventListener("hashchange", (event) => follow(new URL(event.newURL).hash));
  addEventListener("DOMContentLoaded", () => follow(location.hash)); // when the frames, which come last, are there
}
