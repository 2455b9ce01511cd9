// Asks for the figures once a second and shows them. Nothing but a closed page ends it:
// what fails is tried again.

import { duration, keep, mark, plural, say } from "./dom.js";
import { Pool } from "./panels.js";
import { Tip } from "./tip.js";

const PERIOD = 1000;
const PATIENCE = 4000;
// Some workers are late with their last seconds: ask for these again.
const OVERLAP = 5;

const at = (id) => document.getElementById(id);
const tip = new Tip(at("tip"));
const pools = new Map();
let since = 0;
let answeredAt = null;
// By process id.
let silent = new Set();

// An answer that is not what was asked for, in its own words if it has any.
class Refused extends Error {
  static async of(response) {
    const isText = (response.headers.get("Content-Type") ?? "").startsWith("text/plain");
    const words = isText ? (await response.text()).trim().slice(0, 300) : `${response.status} ${response.statusText}`;
    return new Refused(words);
  }
}

async function ask() {
  const response = await fetch(`status.json?since=${since}`, {
    signal: AbortSignal.timeout(PATIENCE),
    headers: { Accept: "application/json" },
    redirect: "error",
  });
  if (response.status === 401) {
    location.reload(); // to the form
    return new Promise(() => {});
  }
  if (!response.ok) throw await Refused.of(response);
  return response.json();
}

function show(status) {
  // What a worker did while it was silent is in nobody's answer but its own.
  const isBack = status.workers.some((worker) => worker.answers && silent.has(worker.pid));
  silent = new Set(status.workers.filter((worker) => !worker.answers).map((worker) => worker.pid));
  since = isBack ? 0 : Math.max(0, Math.floor(status.taken_at) - OVERLAP);
  const answering = plural(status.workers.length, status.workers[0].age ? "worker" : "process", status.workers[0].age ? "workers" : "processes");
  say(at("service"), `${status.service.host} · ${answering}${silent.size ? `, ${silent.size} silent` : ""}`);
  const names = [...new Set(status.workers.flatMap((worker) => worker.pools.map((pool) => pool.name)))].sort();
  keep(
    at("pools"),
    names,
    (name) => name,
    (name) => {
      const pool = new Pool(name, tip);
      pools.set(name, pool);
      return pool.element;
    },
    (_, name) => pools.get(name).renew(name, status),
  );
  for (const name of pools.keys()) if (!names.includes(name)) pools.delete(name);
  showVerdict(names, silent.size > 0);
  tip.renew();
}

function showVerdict(names, isOneSilent) {
  const found = names.map((name) => pools.get(name).verdict);
  const worst = ["bad", "busy"].find((kind) => found.some((one) => one.classList.contains(kind))) ?? "well";
  const kind = worst === "well" && isOneSilent ? "busy" : worst;
  const words = { bad: "trouble", busy: "look here", well: "all well" }[kind];
  say(at("verdict"), names.length ? words : "there is no pool yet");
  mark(at("verdict"), "class", `verdict ${names.length ? kind : "busy"}`);
  document.title = `${kind === "well" ? "" : "! "}${names.join(", ") || "pgdbpool"} · ${words}`;
}

function reasonOf(error) {
  if (error instanceof Refused) return `The application does not tell: ${error.message}`;
  if (error instanceof SyntaxError) return "The application's answer is cut off, or from something else.";
  return "No answer from the application; trying again.";
}

// The reason is read aloud when it changes; for how long, which does all the time, is not.
function complain(reason, brief) {
  at("trouble").hidden = false;
  say(at("reason"), reason);
  const ago = answeredAt === null ? "" : `What you see is ${duration((Date.now() - answeredAt) / 1000)} old.`;
  say(at("ago"), ago);
  mark(document.body, "data-stale", "yes");
  say(at("freshness"), brief);
}

function renew(status) {
  try {
    show(status);
  } catch (error) {
    console.error(error);
    complain(`This page cannot show what it was told (${error.message}). Load it anew.`, "not renewed");
    return;
  }
  answeredAt = Date.now();
  at("trouble").hidden = true;
  mark(document.body, "data-stale", "no");
  say(at("freshness"), `as of ${new Date(status.taken_at * 1000).toLocaleTimeString("en-GB")}`);
}

async function go() {
  const began = Date.now();
  try {
    renew(await ask());
  } catch (error) {
    complain(reasonOf(error), error.name === "TimeoutError" ? "no answer" : "not renewed");
  }
  setTimeout(go, Math.max(200, PERIOD - (Date.now() - began)));
}

async function press(form) {
  // What it leads to is not for us.
  const response = await fetch(form.action, { method: "POST", redirect: "manual" });
  if (response.type !== "opaqueredirect") throw await Refused.of(response);
}

// A button does its work without leaving the page; what comes of it is seen there.
for (const form of document.querySelectorAll("form.action")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    at("pressed").hidden = true;
    try {
      await press(form);
    } catch (error) {
      const words = error instanceof Refused ? error.message : "no answer from the application";
      at("pressed").hidden = false;
      say(at("pressed"), `“${button.textContent}”: ${words}`);
    }
    setTimeout(() => { button.disabled = false; }, PERIOD);
  });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const pool of pools.values()) pool.charts.redraw();
});
go();
