"use strict";
// A dataset: one split at a time, its episodes, and one of them in the player. Where they are is in the address.

const COLUMNS = [
  { key: "episode", title: "#", help: "Episode" },
  { key: "return", title: "Return", help: "Sum of the rewards" },
  { key: "length", title: "Length", help: "Frames" },
  { key: "background", title: "Background", help: "Video behind the agent", text: true },
  { key: "coverage", title: "Coverage", help: "Share of the pixels that the mask covers", format: percent },
  { key: "iou", title: "J", help: "Region similarity with the simulator's mask" },
  { key: "boundary_f", title: "F", help: "Contour accuracy against the simulator's mask" },
  { key: "lost_frames", title: "Lost", help: "Frames in which the mask lost the agent" },
  { key: "success", title: "Success", help: "Whether the task was solved" },
];

const split = find("#split");
const where = find("#where");
const names = data.splits.map((one) => `${one.config}/${one.split}`);
let state = { part: null, episode: null };
let table = null;
let plots = [];
let histograms = [];

function parsed(hash) {
  const [config, name, episode, t] = addressed(hash);
  const part = data.splits.find((one) => one.config === config && one.split === name);
  return part && { part, episode: Number(episode || part.open), t: Number(t || 0) || 0 };
}

const player = new Player((t, playing) => {
  for (const plot of plots) plot.at(t);
  if (playing || !state.part) return;
  const { config, split: name } = state.part;
  where.textContent = [config, name, state.episode, t].join("/");
  setAddress(address(config, name, state.episode, t));
});

function showSplit(part) {
  split.value = `${part.config}/${part.split}`;
  facts(find("#facts"), [
    ["Episodes", shown(part.rows.length)],
    ["Frames", shown(part.frames)],
    ["Image", part.size.join("×")],
    ["Frames a second", shown(part.fps)],
    ["Action", `${part.action} numbers`],
    ["Masks by", part.masks],
    ["Expert's return", part.expert === null ? null : shown(part.expert, 1)],
  ]);
  const held = COLUMNS.filter(({ key }) => part.rows.some((row) => row[key] !== null && row[key] !== undefined));
  const link = (row) => (part.held && !part.held.includes(row.episode) ? null : address(part.config, part.split, row.episode, 0));
  const columns = held.map((column) => (column.key === "episode" ? { ...column, link } : column));
  state = { part, episode: null };
  table = new SortedTable(find("#episodes"), columns, part.rows, { current: (row) => row.episode === state.episode });
  const area = find("#histograms");
  area.replaceChildren();
  const varies = (key) => new Set(part.rows.map((row) => row[key])).size > 1;
  histograms = held
    .filter(({ key, text }) => !text && key !== "episode" && key !== "success" && varies(key))
    .map(({ key, title, format }) => {
      const values = part.rows.map((row) => row[key]);
      return { key, drawn: new Histogram(area, { title, values, format }) };
    });
  find("#distribution").hidden = !histograms.length;
}

async function answer(kind, part, episode, chunk = 0) {
  const query = new URLSearchParams({ config: part.config, split: part.split, episode, chunk });
  const found = await fetch(`${kind}?${query}`).catch(() => {
    throw new Error("the server has ended; start `dmask view --serve` again");
  });
  if (!found.ok) throw new Error(await found.text());
  return found;
}

function source(part, episode) {
  const held = data.served ? null : attached(`${part.config}/${part.split}/${episode}`);
  if (!data.served && !held) return null;
  return held
    ? { frames: async (k) => bytes(held.chunks[k]), series: async () => held.series }
    : {
        frames: async (k) => (await answer("frames", part, episode, k)).arrayBuffer(),
        series: async () => (await answer("series", part, episode)).json(),
      };
}

function showSeries(part, series) {
  const area = find("#signals");
  area.replaceChildren();
  const seek = (x) => player.seek(x);
  const bounded = series.action.every((values) => values.every((value) => Math.abs(value) <= 1));
  const lines = series.action.map((y, i) => ({ name: String(i), y }));
  plots = [new Plot(area, { title: "Action", lines, range: bounded ? [-1, 1] : null, seek })];
  for (const [key, title] of [["reward", "Reward"], ["coverage", "Mask coverage"], ["iou", "J with the simulator's mask"]]) {
    const range = key === "iou" ? [0, 1] : null;
    if (series[key]) plots.push(new Plot(area, { title, lines: [{ name: key, y: series[key] }], range, seek }));
  }
}

function showEpisode(part, episode, t) {
  if (state.part !== part) showSplit(part);
  if (state.episode === episode && player.episode) {
    player.seek(t);
    return;
  }
  state.episode = episode;
  const row = part.rows.find((one) => one.episode === episode);
  table.mark()?.scrollIntoView({ block: "nearest" });
  for (const { key, drawn } of histograms) drawn.mark(row?.[key]);
  plots = [];
  find("#signals").replaceChildren();
  if (!row) {
    player.empty(`There is no episode ${episode} here.`);
    return;
  }
  const found = source(part, episode);
  if (!found) {
    const held = `This file holds the frames of ${part.held.length} of ${part.rows.length} episodes`;
    player.empty(`${held}; ${data.advice} shows all.`);
    return;
  }
  const views = [{ image: "observation.image", mask: "observation.mask", label: "Frame" }];
  if (part.columns.includes("observation.image_clean")) {
    const mask = part.columns.includes("observation.mask_clean") ? "observation.mask_clean" : null;
    views.push({ image: "observation.image_clean", mask, label: "Clean frame" });
  }
  const masks = { "observation.mask": part.masks };
  if (part.columns.includes("observation.mask_sim")) masks["observation.mask_sim"] = "simulator";
  const frames = new Frames(row.length, part.chunk, found.frames);
  player.show({ frames, length: row.length, fps: part.fps, views, masks }, t);
  found.series().then(
    (series) => {
      if (state.part !== part || state.episode !== episode) return;
      showSeries(part, series);
      for (const plot of plots) plot.at(player.t);
    },
    (error) => player.note(`The signals can't be shown: ${error.message}`),
  );
}

function follow(hash) {
  const found = parsed(hash) ?? { part: data.splits[0], episode: data.splits[0].open, t: 0 };
  showEpisode(found.part, found.episode, found.t);
}

function neighbour(by) {
  const at = table.rows.findIndex(({ row }) => row.episode === state.episode);
  const next = table.rows[at + by];
  if (next) showEpisode(state.part, next.row.episode, 0);
}

split.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
split.addEventListener("change", () => {
  const part = data.splits[names.indexOf(split.value)];
  showEpisode(part, part.open, 0);
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "n") neighbour(1);
  if (event.key === "p") neighbour(-1);
});
addEventListener("hashchange", (event) => follow(new URL(event.newURL).hash));
if (data.served) follow(location.hash);
else {
  showSplit((parsed(location.hash) ?? { part: data.splits[0] }).part);
  addEventListener("DOMContentLoaded", () => follow(location.hash)); // when the frames, which come last in a file, are there
}
