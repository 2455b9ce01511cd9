// What the figures of several workers come to together.

import { duration } from "./dom.js";

export const workerName = (worker) => (worker.age ? `worker ${worker.age}` : `process ${worker.pid}`);
export const purpose = (holder) => holder.request ?? holder.place;

export function sum(items, value) {
  return items.reduce((total, item) => total + value(item), 0);
}

function largest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
}

export function endpointsOf(parts) {
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

export function routesOf(parts) {
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

export function clientOf(session, { service, workers }) {
  // A worker's token is the end of the name, which may have other colons.
  const [, program, id, age] = /^(.*?)(?::([0-9a-f]+)[.]([0-9]+))?$/s.exec(session.application_name);
  const worker = id && id === service.id && workers.find((one) => String(one.age) === age);
  return worker ? workerName(worker) : `${session.client || "local"}, ${program}`;
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
  const away = endpointsOf(parts).filter((one) => /down|astray/.test(one.state));
  if (away.length) return ["busy", away.map((one) => `${one.name} is ${one.state}`).join(", ")];
  return ["well", "all well"];
}
