// The connections of a pool, each a cell.

import { duration, make } from "./dom.js";
import { purpose, workerName } from "./sums.js";

const MOST_CALLERS = 4;
const MOST_FREE = 12;
const LABELS = { idle: "idle", connecting: "opening", reserved: "checked" };
export const LEGEND = [
  ["in_use", "in use: for how long"],
  ["long", "in use for long"],
  ["idle", "idle"],
  ["connecting", "being opened"],
  ["reserved", "being checked"],
  ["free", "not open"],
];

export function newCell(cell) {
  if (!cell.facts) return make("span", { class: "cell" });
  return make("button", { type: "button", class: "cell", tabindex: "-1" });
}

export function cellsOf(worker, pool) {
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
