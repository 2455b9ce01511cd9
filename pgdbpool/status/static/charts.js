// The last minutes of one pool, drawn by uPlot.

import { make, number, say } from "./dom.js";

const HEIGHT = 84;
// The time axis begins so short and grows with what is known, seconds.
const SHORTEST = 60;
// Between the lines of the other axis.
const WHOLE = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const mean = (sum, count) => (count ? sum / count : null);
// Of a second: how long they waited whose wait ended in it, and held whose hold did.
export const waited = (row) => mean(row.waited_ms, row.served + row.errors);
export const held = (row) => mean(row.held_ms, row.released);

// Of each chart: its title, unit, and series with the colour's name in the stylesheet.
const CHARTS = [
  {
    title: "Connections in use",
    unit: "",
    series: [
      ["in use", "--in-use", (row) => row.in_use],
      ["open", "--soft", (row) => row.size],
    ],
  },
  { title: "Callers waiting", unit: "", series: [["waiting", "--waiting", (row) => row.waiting]] },
  {
    title: "Acquires",
    unit: "/s",
    series: [
      ["all", "--in-use", (row) => row.acquires],
      ["queued", "--waiting", (row) => row.queued],
    ],
  },
  {
    title: "Wait, mean",
    unit: " ms",
    series: [["wait", "--waiting", waited]],
  },
  {
    title: "Hold, mean",
    unit: " ms",
    series: [["hold", "--in-use", held]],
  },
  {
    title: "Errors",
    unit: "/s",
    series: [
      ["refused", "--bad", (row) => row.errors],
      ["sessions lost", "--reserved", (row) => row.lost],
    ],
  },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axis(values) {
  return {
    stroke: () => colour("--soft"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
    ...values,
  };
}

class Chart {
  constructor(kind) {
    this.kind = kind;
    this.value = make("span", { class: "value" });
    this.box = make("div", { class: "plot", role: "img" });
    this.figure = make(
      "figure",
      { class: "chart" },
      make("figcaption", {}, make("span", {}, kind.title), this.value),
      this.box,
    );
    this.data = [[], ...kind.series.map(() => [])];
    this.cursor = null;
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  draw() {
    const { series } = this.kind;
    this.plot = new uPlot(
      {
        width: this.box.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        padding: [6, 16, 0, 0],
        cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: true, range: (plot) => this.window },
          y: { range: (plot, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] },
        },
        axes: [
          axis({ size: 22, space: 48, incrs: [10, 30, 60, 120], values: (plot, ticks) => ticks.map(tick) }),
          axis({ size: 38, space: 26, incrs: WHOLE, values: (plot, ticks) => ticks.map(short) }),
        ],
        series: [
          {},
          ...series.map(([label, name], index) => ({
            label,
            stroke: () => colour(name),
            fill: index === 0 ? () => colour(`${name}-soft`) : undefined,
            width: 1.5,
            dash: index === 0 ? undefined : [4, 3],
            // A second between two of which nothing is known has no line.
            points: { show: true, size: 4, filter: (plot, n) => alone(plot.data[n]) },
          })),
        ],
        hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx)] },
      },
      this.data,
      this.box,
    );
  }

  resize() {
    if (!this.box.clientWidth) return;
    if (this.plot) this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
    else if (this.window) this.draw();
  }

  show(seconds, rows, now) {
    const known = rows.findIndex(Boolean);
    const begin = known < 0 ? now : seconds[known];
    this.window = [Math.max(now - seconds.length + 1, Math.min(begin, now - SHORTEST)), now];
    this.data = [seconds, ...this.kind.series.map(([, , value]) => rows.map((row) => (row ? value(row) : null)))];
    if (this.plot) this.plot.setData(this.data);
    else this.resize();
    if (this.plot?.cursor.idx == null || this.plot.cursor.left < 0) this.tell(null);
  }

  tell(index) {
    const at = index ?? lastKnown(this.data[1]);
    const { unit, series } = this.kind;
    const told = series.map(([label], n) => {
      const value = `${number(this.data[n + 1][at])}${unit}`;
      return series.length > 1 ? `${label} ${value}` : value;
    });
    const text = told.join(" · ");
    say(this.value, index == null ? text : `${clock(this.data[0][at])}  ${text}`);
    this.box.setAttribute("aria-label", `${this.kind.title}: ${text}`);
  }
}

function alone(values) {
  const has = (index) => values[index] != null;
  return values.flatMap((_, index) => (has(index) && !has(index - 1) && !has(index + 1) ? [index] : []));
}

function lastKnown(values) {
  let at = values.length - 1;
  while (at > 0 && values[at] == null) at -= 1;
  return at;
}

function tick(second) {
  return second % 60 ? `:${String(second % 60).padStart(2, "0")}` : clock(second).slice(0, 5);
}

function clock(second) {
  return new Date(second * 1000).toLocaleTimeString("en-GB");
}

function short(value) {
  if (value >= 10000) return `${Math.round(value / 1000)}k`;
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

// All charts of one pool, and the rows they show, by second.
export class Charts {
  constructor() {
    this.rows = new Map();
    this.charts = CHARTS.map((kind) => new Chart(kind));
    this.element = make("div", { class: "charts" }, ...this.charts.map((chart) => chart.figure));
  }

  add(columns, rows, length, now) {
    for (const values of rows) {
      const row = Object.fromEntries(columns.map((name, index) => [name, values[index]]));
      this.rows.set(row.second, row);
    }
    const last = Math.floor(now) - 2;
    const seconds = Array.from({ length }, (_, index) => last - length + 1 + index);
    // Later than now was before the clock was set back.
    for (const second of this.rows.keys()) if (second < seconds[0] || second > now) this.rows.delete(second);
    const shown = seconds.map((second) => this.rows.get(second) ?? null);
    for (const chart of this.charts) chart.show(seconds, shown, last);
  }

  // The newest row that all workers had time for.
  get latest() {
    return this.rows.get(Math.max(...this.rows.keys())) ?? null;
  }

  redraw() {
    for (const chart of this.charts) chart.plot?.redraw();
  }
}
