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
  if (!response.ok) throw new Error(`it says ${response.status}`);
  return response.json();
}

function show(status) {
  since = Math.max(0, Math.floor(status.taken_at) - OVERLAP);
  const silent = status.workers.filter((worker) => !worker.answers).length;
  const answering = plural(status.workers.length, status.workers[0].age ? "worker" : "process", status.workers[0].age ? "workers" : "processes");
  say(at("service"), `${status.service.host} · ${answering}${silent ? `, ${silent} silent` : ""}`);
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
  showVerdict(names, silent);
  tip.renew();
}

function showVerdict(names, silent) {
  const found = names.map((name) => pools.get(name).verdict);
  const worst = ["bad", "busy"].find((kind) => found.some((one) => one.classList.contains(kind))) ?? "well";
  const kind = worst === "well" && silent ? "busy" : worst;
  const words = { bad: "trouble", busy: "look here", well: "all well" }[kind];
  say(at("verdict"), names.length ? words : "there is no pool yet");
  mark(at("verdict"), "class", `verdict ${names.length ? kind : "busy"}`);
  document.title = `${kind === "well" ? "" : "! "}${names.join(", ") || "pgdbpool"} · ${words}`;
}

function complain(error) {
  const ago = answeredAt === null ? "" : ` for ${duration((Date.now() - answeredAt) / 1000)}`;
  say(at("trouble"), `No answer from the application${ago}; trying again. What you see is from before.`);
  at("trouble").hidden = false;
  mark(document.body, "data-stale", "yes");
  say(at("freshness"), error.name === "TimeoutError" ? "no answer" : "cannot be reached");
}

async function go() {
  const began = Date.now();
  try {
    const status = await ask();
    show(status);
    answeredAt = Date.now();
    at("trouble").hidden = true;
    mark(document.body, "data-stale", "no");
    say(at("freshness"), `as of ${new Date(status.taken_at * 1000).toLocaleTimeString("en-GB")}`);
  } catch (error) {
    complain(error);
  }
  setTimeout(go, Math.max(200, PERIOD - (Date.now() - began)));
}

// A button does its work without leaving the page; what comes of it is seen there.
for (const form of document.querySelectorAll("form.action")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await fetch(form.action, { method: "POST", redirect: "manual" });
    } catch (error) {
      complain(error);
    }
    setTimeout(() => { button.disabled = false; }, PERIOD);
  });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const pool of pools.values()) pool.charts.redraw();
});
go();
