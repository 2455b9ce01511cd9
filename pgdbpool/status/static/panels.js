// What is shown of one pool, in all workers that answer.

import { LEGEND, cellsOf, newCell } from "./cells.js";
import { Charts, held as heldMean, waited } from "./charts.js";
import { duration, keep, make, mark, number, say } from "./dom.js";
import { clientOf, endpointsOf, purpose, routesOf, sum, verdictOf, workerName } from "./sums.js";

const MOST_NAMED = 5;
const MOST_ROUTES = 12;
// What a server said so long ago is marked as old, seconds.
const OLD = 6;

function panel(title, ...children) {
  return make("section", { class: "panel" }, make("h3", {}, title), ...children);
}

function table(...headings) {
  const cells = headings.map((text) => make("th", { scope: "col" }, text));
  const body = make("tbody");
  const element = make("table", {}, make("thead", {}, make("tr", {}, ...cells)), body);
  return [make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": headings.join(", ") }, element), body];
}

function fill(row, texts) {
  keep(
    row,
    texts,
    (_, index) => index,
    () => make("td"),
    (cell, text) => {
      const [words, kind] = Array.isArray(text) ? text : [text, ""];
      say(cell, words);
      mark(cell, "class", kind);
    },
  );
}

function rows(body, items, keyOf, texts, empty, kindOf = () => "") {
  const shown = items.length ? items : [null];
  keep(
    body,
    shown,
    (item, index) => (item ? keyOf(item, index) : "none"),
    () => make("tr"),
    (row, item) => {
      if (item === null) {
        if (!row.firstChild) row.append(make("td", { colspan: "9", class: "none" }));
        say(row.firstChild, empty);
        return;
      }
      mark(row, "class", kindOf(item));
      fill(row, texts(item));
    },
  );
}

export class Pool {
  constructor(name, tip) {
    this.tip = tip;
    this.charts = new Charts();
    this.verdict = make("span", { class: "verdict" });
    this.tiles = make("dl", { class: "tiles" });
    this.cells = make("div", { class: "workers" });
    this.cells.addEventListener("keydown", (event) => this.move(event));
    const legend = LEGEND.map(([kind, text]) =>
      make("li", {}, make("span", { class: `cell ${kind}`, "aria-hidden": "true" }), text),
    );
    const [endpoints, endpointRows] = table("server", "role", "state", "lag", "round trip", "in use", "idle");
    const [holders, holderRows] = table("held for", "request", "acquired at", "worker", "backend", "transaction");
    const [line, lineRows] = table("", "waits for", "request", "acquires at", "worker");
    const [routes, routeRows] = table("route", "holds", "wait, mean", "hold, mean", "hold, 95 % within");
    const [sessions, sessionRows] = table("server", "backend", "state", "for", "waits for", "transaction", "whose", "held by");
    Object.assign(this, { endpointRows, holderRows, lineRows, routeRows, sessionRows });
    this.errors = make("ul", { class: "errors" });
    this.asked = make("p", { class: "note" });
    this.routePanel = panel("Routes", routes);
    this.element = make(
      "section",
      { class: "pool", "aria-label": `pool ${name}` },
      make("header", {}, make("h2", {}, name), this.verdict),
      this.tiles,
      make(
        "div",
        { class: "columns" },
        panel("Servers", endpoints, this.errors),
        panel("Connections", this.cells, make("ul", { class: "legend" }, ...legend)),
      ),
      make("div", { class: "columns steady" }, panel("Held longest", holders), panel("Waiting line", line)),
      panel("Last minutes", this.charts.element),
      this.routePanel,
      panel("Sessions, as the server sees them", sessions, this.asked),
    );
  }

  renew(name, status) {
    const parts = status.workers.flatMap((worker) =>
      worker.pools.filter((pool) => pool.name === name).map((pool) => ({ worker, pool })),
    );
    const held = parts.flatMap(({ worker, pool }) =>
      pool.sessions.filter((session) => session.holder).map((session) => ({ worker, pool, ...session.holder })),
    );
    held.sort((one, other) => other.seconds - one.seconds);
    const waiting = parts.flatMap(({ worker, pool }) => pool.waiting.map((one) => ({ worker, ...one })));
    waiting.sort((one, other) => other.seconds - one.seconds);
    const endpoints = endpointsOf(parts);
    const { columns, pools } = status.history;
    this.charts.add(columns, pools[name] ?? [], status.service.length, status.taken_at);
    this.showVerdict(parts, held);
    this.showTiles(parts, endpoints, held, waiting);
    this.showCells(status.workers, parts);
    this.showEndpoints(endpoints);
    this.showHolders(held, waiting);
    this.showRoutes(parts);
    this.showSessions(status, held, status.server.filter((seen) => seen.pool === name));
  }

  showVerdict(parts, held) {
    const [kind, words] = verdictOf(parts, held);
    say(this.verdict, words);
    mark(this.verdict, "class", `verdict ${kind}`);
  }

  showTiles(parts, endpoints, held, waiting) {
    const size = sum(endpoints, (one) => one.max_size);
    const row = this.charts.latest;
    const mean = (of) => (row && of(row) !== null ? `${number(of(row))} ms` : "–");
    // Of a long line, only the first are listed.
    const line = sum(parts, ({ pool }) => pool.counts.requests_waiting);
    const tiles = [
      ["in use", `${held.length}`, `of ${size}`],
      ["waiting", `${line}`, waiting.length ? `up to ${duration(waiting[0].seconds)}` : ""],
      ["acquires", row ? number(row.acquires) : "–", "/s"],
      ["wait, mean", mean(waited), ""],
      ["hold, mean", mean(heldMean), ""],
      ["errors", row ? number(row.errors) : "–", "/s"],
    ];
    keep(
      this.tiles,
      tiles,
      ([title]) => title,
      ([title]) => make("div", {}, make("dt", {}, title), make("dd", {}, make("b"), make("small"))),
      (tile, [, value, rest]) => {
        say(tile.querySelector("b"), value);
        say(tile.querySelector("small"), rest ? ` ${rest}` : "");
      },
    );
  }

  showCells(workers, parts) {
    const shown = workers.map((worker) => ({ worker, parts: parts.filter((part) => part.worker === worker) }));
    keep(
      this.cells,
      shown,
      ({ worker }) => worker.pid,
      () => make("div", { class: "worker" }, make("h4"), make("div", { class: "cells" })),
      (row, { worker, parts: own }) => {
        say(row.firstChild, worker.age ? `${workerName(worker)} · pid ${worker.pid}` : workerName(worker));
        row.classList.toggle("silent", !worker.answers);
        const cells = own.flatMap(({ pool }) => cellsOf(worker, pool));
        if (!worker.answers) cells.push({ key: "silent", kind: "none", text: "does not answer" });
        keep(row.lastChild, cells, (cell) => cell.key, newCell, (element, cell) => this.showCell(element, cell));
      },
    );
    const all = this.all();
    if (!all.some((cell) => cell.tabIndex === 0) && all[0]) all[0].tabIndex = 0;
  }

  all() {
    return [...this.cells.querySelectorAll("button")];
  }

  showCell(element, cell) {
    mark(element, "class", `cell ${cell.kind}`);
    say(element, cell.text);
    if (element.tagName !== "BUTTON") return;
    mark(element, "aria-label", cell.label);
    element.facts = cell.facts;
    this.tip.attach(element);
  }

  // One stop of the Tab key for all cells; the arrows go from one to the next.
  move(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = this.all();
    const at = all.indexOf(event.target);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    const next = all[(at + step + all.length) % all.length];
    all[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  showEndpoints(endpoints) {
    rows(
      this.endpointRows,
      endpoints,
      (one) => one.name,
      (one) => [
        one.name,
        one.role,
        [one.state, one.isWell ? "well" : "bad"],
        one.role === "standby" ? duration(one.lag) : "–",
        duration(one.round_trip),
        `${one.in_use} of ${one.max_size}`,
        one.connecting ? `${one.idle} + ${one.connecting} opening` : one.idle,
      ],
      "none",
    );
    keep(
      this.errors,
      endpoints.filter((one) => one.last_error),
      (one) => one.name,
      () => make("li"),
      (line, one) => {
        mark(line, "class", one.isWell ? "past" : "");
        say(line, `${one.name}${one.isWell ? ", before" : ""}: ${one.last_error}`);
      },
    );
  }

  showHolders(held, waiting) {
    rows(
      this.holderRows,
      held.slice(0, MOST_NAMED),
      (one) => `${one.worker.pid} ${one.backend_pid}`,
      (one) => [
        one.seconds >= one.pool.long_hold ? [`${duration(one.seconds)} – long`, "bad"] : duration(one.seconds),
        one.request ?? "–",
        [one.place, "code"],
        workerName(one.worker),
        one.backend_pid ?? "–",
        one.transaction,
      ],
      "Nobody holds a connection.",
    );
    rows(
      this.lineRows,
      waiting.slice(0, MOST_NAMED).map((one, index) => ({ ...one, index })),
      (one) => one.index,
      (one) => [one.index + 1, [duration(one.seconds), "waits"], one.request ?? "–", [one.place, "code"], workerName(one.worker)],
      "Nobody waits.",
    );
  }

  showRoutes(parts) {
    const routes = routesOf(parts).slice(0, MOST_ROUTES);
    this.routePanel.hidden = routes.length === 0;
    rows(
      this.routeRows,
      routes,
      (one) => one.name,
      (one) => [[one.name, "code"], number(one.count), duration(one.wait), duration(one.hold), one.within],
      "none",
    );
  }

  showSessions(status, held, seen) {
    // Two servers may each have a process of the same number.
    const key = (endpoint, pid) => `${endpoint} ${pid}`;
    const owners = new Map(held.map((one) => [key(one.endpoint, one.backend_pid), one]));
    const age = (one) => Math.max(0, status.taken_at - one.taken_at);
    const sessions = seen.flatMap((one) =>
      one.sessions.map((session) => ({ ...session, endpoint: one.endpoint, age: age(one), isOld: age(one) > OLD })),
    );
    rows(
      this.sessionRows,
      sessions,
      (one) => key(one.endpoint, one.pid),
      (one) => {
        const owner = owners.get(key(one.endpoint, one.pid));
        return [
          one.endpoint,
          one.pid,
          one.is_asking ? "asks for this" : one.state || "not shown to us",
          one.is_asking ? "–" : `${duration(one.seconds)}${one.isOld ? `, ${duration(one.age)} ago` : ""}`,
          one.is_asking || !one.wait_event ? "–" : `${one.wait_type}: ${one.wait_event}`,
          one.is_asking || one.transaction_seconds === null ? "–" : duration(one.transaction_seconds),
          clientOf(one, status),
          owner ? `${purpose(owner)} (${workerName(owner.worker)})` : "–",
        ];
      },
      seen.length ? "None is known." : "Not asked yet: that needs an idle connection.",
      (one) => (one.isOld ? "old" : ""),
    );
    say(this.asked, seen.map((one) => askedWhen(one, duration(age(one)))).join(" · "));
  }
}

function askedWhen(seen, age) {
  if (!seen.error) return `${seen.endpoint}: ${age} ago`;
  const refused = `could not be asked (${seen.error}); in a minute again`;
  return seen.sessions.length ? `${seen.endpoint}: ${age} ago, then it ${refused}` : `${seen.endpoint} ${refused}`;
}
