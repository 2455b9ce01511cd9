// What is shown of one pool, in all workers that answer.

import { Charts } from "./charts.js";
import { duration, keep, make, mark, number, say } from "./dom.js";

const MOST_NAMED = 5;
const MOST_CALLERS = 4;
const MOST_FREE = 12;
const MOST_ROUTES = 12;
const LABELS = { idle: "idle", connecting: "opening", reserved: "checked" };
const LEGEND = [
  ["in_use", "in use: for how long"],
  ["long", "in use for long"],
  ["idle", "idle"],
  ["connecting", "being opened"],
  ["reserved", "being checked"],
  ["free", "not open"],
];

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

function rows(body, items, keyOf, texts, empty) {
  const shown = items.length ? items : [null];
  keep(
    body,
    shown,
    (item, index) => (item ? keyOf(item, index) : "none"),
    () => make("tr"),
    (row, item) => {
      if (item) fill(row, texts(item));
      else if (!row.firstChild) row.append(make("td", { colspan: "9", class: "none" }, empty));
    },
  );
}

const workerName = (worker) => (worker.age ? `worker ${worker.age}` : `process ${worker.pid}`);
const purpose = (holder) => holder.request ?? holder.place;

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
    const [endpoints, endpointRows] = table("server", "role", "state", "lag", "round trip", "in use", "idle", "last error");
    const [holders, holderRows] = table("held for", "request", "acquired at", "worker", "backend", "transaction");
    const [line, lineRows] = table("", "waits for", "request", "acquires at", "worker");
    const [routes, routeRows] = table("route", "holds", "wait, mean", "hold, mean", "hold, 95 % within");
    const [sessions, sessionRows] = table("server", "backend", "state", "for", "waits for", "transaction", "whose", "held by");
    Object.assign(this, { endpointRows, holderRows, lineRows, routeRows, sessionRows });
    this.asked = make("p", { class: "note" });
    this.routePanel = panel("Routes", routes);
    this.element = make(
      "section",
      { class: "pool", "aria-label": `pool ${name}` },
      make("header", {}, make("h2", {}, name), this.verdict),
      this.tiles,
      panel("Servers", endpoints),
      panel("Connections", this.cells, make("ul", { class: "legend" }, ...legend)),
      make("div", { class: "columns" }, panel("Held longest", holders), panel("Waiting line", line)),
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
    this.showTiles(endpoints, held, waiting);
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

  showTiles(endpoints, held, waiting) {
    const size = sum(endpoints, (one) => one.max_size);
    const row = this.charts.latest;
    const mean = (total) => (row?.acquires ? `${number(row[total] / row.acquires)} ms` : "–");
    const tiles = [
      ["in use", `${held.length}`, `of ${size}`],
      ["waiting", `${waiting.length}`, ""],
      ["acquires", row ? number(row.acquires) : "–", "/s"],
      ["wait, mean", mean("waited_ms"), ""],
      ["hold, mean", mean("held_ms"), ""],
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
        [one.last_error ?? "–", one.isWell ? "wide past" : "wide"],
      ],
      "none",
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
    const sessions = seen.flatMap((one) => one.sessions.map((session) => ({ ...session, endpoint: one.endpoint })));
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
          one.is_asking ? "–" : duration(one.seconds),
          one.is_asking || !one.wait_event ? "–" : `${one.wait_type}: ${one.wait_event}`,
          one.is_asking || one.transaction_seconds === null ? "–" : duration(one.transaction_seconds),
          clientOf(one, status),
          owner ? `${purpose(owner)} (${workerName(owner.worker)})` : "–",
        ];
      },
      "Not asked yet: that needs an idle connection.",
    );
    const ages = seen.map((one) => {
      const age = duration(Math.max(0, status.taken_at - one.taken_at));
      return `${one.endpoint}: ${age} ago${one.error ? `, then it could not be asked (${one.error})` : ""}`;
    });
    say(this.asked, ages.join(" · "));
  }
}

function newCell(cell) {
  if (!cell.facts) return make("span", { class: "cell" });
  return make("button", { type: "button", class: "cell", tabindex: "-1" });
}

function cellsOf(worker, pool) {
  const several = pool.endpoints.length > 1;
  const cells = pool.sessions.map((session, index) => {
    const isLong = session.holder && session.seconds >= pool.long_hold;
    const words = session.state === "in_use" ? "in use" : (LABELS[session.state] ?? session.state);
    const holder = session.holder;
    return {
      key: `${session.endpoint} ${session.backend_pid ?? `new ${index}`}`,
      kind: isLong ? "long" : session.state,
      text: session.state === "in_use" ? brief(session.seconds) : words,
      label:
        `${workerName(worker)}: ${words} for ${duration(session.seconds)}` +
        (holder ? ` by ${purpose(holder)}, acquired at ${holder.place}` : ""),
      facts: [
        ["state", `${words} for ${duration(session.seconds)}${isLong ? " – long" : ""}`],
        ["server", session.endpoint],
        ["backend", session.backend_pid ?? "none yet"],
        ...(holder
          ? [
              ["request", holder.request ?? "–"],
              ["acquired at", holder.place],
              ["thread", holder.thread],
              ["transaction", holder.transaction],
              ...(holder.stack.length > 1 ? [["called by", holder.stack.slice(1, 1 + MOST_CALLERS).map(shortened).join("\n")]] : []),
            ]
          : []),
      ],
    };
  });
  const free = Math.max(0, pool.max_size * (several ? pool.endpoints.length : 1) - pool.sessions.length);
  for (let n = 0; n < Math.min(free, MOST_FREE); n += 1) cells.push({ key: `free ${n}`, kind: "free", text: "" });
  if (free > MOST_FREE) cells.push({ key: "more", kind: "more", text: `+ ${free - MOST_FREE}` });
  return cells;
}

// At most five characters: it has to fit the cell.
function brief(seconds) {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)}ms`;
  return duration(seconds).replace(" min", "m").replace(" ", "");
}

// Of a path, the file and the folder it is in, as in "acquired at".
function shortened(line) {
  return line.replace(/^.*?([^/]*\/[^/]*)$/, "$1");
}

function sum(items, value) {
  return items.reduce((total, item) => total + value(item), 0);
}

function largest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
}

function endpointsOf(parts) {
  const found = new Map();
  for (const { pool } of parts)
    for (const endpoint of pool.endpoints) {
      if (!found.has(endpoint.name)) found.set(endpoint.name, []);
      found.get(endpoint.name).push(endpoint);
    }
  return [...found].map(([name, seen]) => {
    const states = [...new Set(seen.map((one) => one.state))];
    const roles = [...new Set(seen.map((one) => one.role).filter(Boolean))];
    const told = states.map((state) => `${state} (${seen.filter((one) => one.state === state).length})`);
    return {
      name,
      role: roles.join(" and ") || "unknown",
      state: states.length > 1 ? told.join(", ") : states[0],
      isWell: states.every((state) => state === "up"),
      lag: largest(seen.map((one) => one.lag)),
      round_trip: largest(seen.map((one) => one.round_trip)),
      in_use: sum(seen, (one) => one.in_use),
      idle: sum(seen, (one) => one.idle),
      connecting: sum(seen, (one) => one.connecting),
      max_size: sum(seen, (one) => one.max_size),
      last_error: seen.map((one) => one.last_error).find(Boolean) ?? null,
    };
  });
}

function routesOf(parts) {
  const found = new Map();
  for (const { pool } of parts)
    for (const [name, { waits, holds }] of Object.entries(pool.routes)) {
      const one = found.get(name) ?? { name, waited: 0, held: 0, bounds: holds.bounds, counts: holds.counts.map(() => 0) };
      one.waited += waits.total;
      one.held += holds.total;
      holds.counts.forEach((count, index) => (one.counts[index] += count));
      found.set(name, one);
    }
  const routes = [...found.values()].sort((one, other) => other.held - one.held);
  return routes.map((one) => {
    const count = sum(one.counts, (value) => value);
    let passed = 0;
    const at = one.counts.findIndex((value) => (passed += value) >= 0.95 * count);
    const within = at < one.bounds.length ? duration(one.bounds[at]) : `over ${duration(one.bounds.at(-1))}`;
    return { ...one, count, wait: one.waited / count, hold: one.held / count, within };
  });
}

function clientOf(session, { service, workers }) {
  const [, token = ""] = session.application_name.split(":");
  const [id, age] = token.split(".");
  const worker = id && id === service.id && workers.find((one) => String(one.age) === age);
  return worker ? workerName(worker) : `${session.client || "local"}, ${session.application_name.split(":")[0]}`;
}

export function verdictOf(parts, held) {
  const health = parts.map(({ pool }) => pool.health);
  if (!health.length) return ["bad", "no worker that answers has this pool"];
  const reasons = [...new Set(health.flatMap((one) => one.reasons))].slice(0, 2).join("; ");
  if (health.some((one) => !one.read_ready)) return ["bad", `not reachable: ${reasons}`];
  if (health.some((one) => !one.write_ready)) return ["bad", `reads only: ${reasons}`];
  if (health.some((one) => one.saturated)) return ["busy", "saturated: all connections are in use"];
  const long = held.filter((one) => one.seconds >= one.pool.long_hold);
  if (long.length) {
    const [one] = long;
    const whose = one.request ? `${one.request}, ${one.place}` : one.place;
    return ["busy", `held for ${duration(one.seconds)}: ${whose}${long.length > 1 ? `, and ${long.length - 1} more` : ""}`];
  }
  return ["well", "all well"];
}
