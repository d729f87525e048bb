import { mark, morph } from "./morph.js";
import { start as steering } from "./steer.js";
import { start as looks } from "./views.js";

const body = document.body;
const root = new URL(body.dataset.root, location.href);
const main = document.getElementById("main");
const live = document.getElementById("live");
const banner = document.getElementById("banner");
const skew = Number(body.dataset.now) - Date.now();
const $ = (id) => document.getElementById(id);
const store = {
  get: (k) => { try { return localStorage.getItem("drover." + k); } catch { return null; } },
  set: (k, v) => { try { v === null ? localStorage.removeItem("drover." + k) : localStorage.setItem("drover." + k, v); } catch { /* no storage */ } },
};
const now = () => Date.now() + skew;
const finals = ["succeeded", "failed", "cancelled"];

// --- words for times -------------------------------------------------------------------------------------------------------

export function span(ms) {
  const s = ms / 1000;
  if (s < 1) return Math.max(0, Math.round(ms)) + " ms";
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " m " + String(Math.floor(s) % 60).padStart(2, "0") + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + String(Math.floor(s / 60) % 60).padStart(2, "0") + " m";
  return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
}

let times = store.get("times") || "ago";
function instant(t) {
  if (times === "utc") return t.toISOString().replace("T", " ").slice(0, 19) + "Z";
  if (times === "local") return t.toLocaleString(undefined, { hour12: false });
  const d = now() - t;
  if (d > -1500 && d < 1000) return "now";
  return d < 0 ? "in " + span(-d) : span(d < 10_000 ? Math.floor(d / 1000) * 1000 : d);
}

const say = (el, text) => { if (el.textContent !== text) el.textContent = text; };

function tick() {
  for (const el of document.querySelectorAll("time")) {
    const text = instant(new Date(el.dateTime));
    say(el, text + (el.dataset.ago !== undefined && times === "ago" && text !== "now" && !text.startsWith("in ") ? " ago" : ""));
  }
  for (const el of document.querySelectorAll("[data-since]")) say(el, span(now() - Number(el.dataset.since)));
  const tl = $("timeline");
  if (tl && tl.hasAttribute("data-open")) stretch(tl);
}

// tell says to who does not see them what the counts are now, at most every 5 s.
let counted = "";
function tell() {
  const now = [...document.querySelectorAll("#tiles a, #tabs a")].filter((a) => a.querySelector("b")).map((a) => a.innerText.replace(/\s+/g, " ").trim()).join(", ");
  if (counted && now !== counted) say($("told"), now);
  counted = now;
}

// stretch draws the timeline up to now, as the server does.
function stretch(tl) {
  const t0 = Number(tl.dataset.t0);
  const t1 = Math.max(now(), Number(tl.dataset.t1));
  const x = (t) => Math.min(100, Math.max(0, (100 * (t - t0)) / (t1 - t0)));
  for (const li of tl.querySelectorAll("li[data-from]")) {
    const from = Number(li.dataset.from);
    const to = li.dataset.to ? Number(li.dataset.to) : t1;
    const bar = li.querySelector(".bar");
    bar.setAttribute("x", x(from).toFixed(2) + "%");
    bar.setAttribute("width", Math.max(0.3, x(to) - x(from)).toFixed(2) + "%");
    if (!li.dataset.to) say(li.querySelector(".tl-dur"), span(to - from));
  }
  tl.querySelectorAll(".ticks text").forEach((t, i) => { if (i) say(t, "+" + span(((t1 - t0) * i) / 4)); });
  if ($("tl-total")) say($("tl-total"), span(t1 - t0));
}

// --- what is shown is read again -----------------------------------------------------------------------------------------

let reading = false, again = false, last = 0, timer = 0, paused = false, fresh = 0;

// steady: the list would jump under the hands of who works on it.
const steady = () => $("bulk") && (document.querySelector("#rows input:checked") || window.scrollY > 160);

export function refresh(force) {
  if (paused && !force) return;
  if (steady() && !force) {
    if ($("fresh")) {
      $("fresh").dataset.own = "";
      $("fresh").hidden = false;
      say($("fresh").firstChild, fresh ? fresh + " new" : "There is news");
    }
    return;
  }
  if (reading) { again = true; return; }
  clearTimeout(timer);
  const wait = force ? 0 : Math.max(0, last + 1000 - Date.now());
  timer = setTimeout(read, wait);
}

async function read() {
  reading = true; again = false; last = Date.now();
  try {
    const res = await fetch(location.href.split("#")[0], { headers: { Accept: "text/html" }, redirect: "error" });
    if (!res.ok && res.status !== 404) throw new Error(String(res.status));
    const doc = new DOMParser().parseFromString(await res.text(), "text/html");
    const to = doc.getElementById("main");
    to.querySelectorAll(".notice").forEach((n) => n.remove());
    main.querySelectorAll(".notice").forEach((n) => n.remove());
    morph(main, to);
    if ($("fresh")) $("fresh").hidden = true;
    fresh = 0;
    document.dispatchEvent(new Event("drover:read"));
    tick();
    if (connected) well();
  } catch { if (!connected) body.classList.add("stale"); }
  reading = false;
  if (again) refresh();
}

// --- the live stream -------------------------------------------------------------------------------------------------------

let source = null, connected = false, tries = 0, retry = 0, since = Date.now();

function connect() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(new URL("v1/events?" + body.dataset.stream, root));
  source.addEventListener("hello", () => { const back = tries > 0; connected = true; tries = 0; state("live"); well(); if (back) refresh(true); });
  source.addEventListener("gone", () => refresh());
  source.addEventListener("bye", () => lost());
  source.addEventListener("job", (e) => job(JSON.parse(e.data)));
  source.addEventListener("queue", (e) => { tail("queue", JSON.parse(e.data)); refresh(); });
  source.addEventListener("host", (e) => { tail("host", JSON.parse(e.data)); refresh(); });
  source.addEventListener("periodic", (e) => { tail("periodic", JSON.parse(e.data)); refresh(); });
  source.addEventListener("member", (e) => { tail("member", JSON.parse(e.data)); refresh(); });
  source.onerror = lost;
}

// lost: tried again after 1, 2, 4 … 30 s; meanwhile what is shown is read every 10 s.
function lost() {
  source?.close();
  if (connected) since = Date.now();
  connected = false;
  const wait = Math.min(30_000, 1000 * 2 ** Math.min(tries++, 5)) * (0.85 + 0.3 * Math.random());
  state("lost");
  if (tries > 1) {
    body.classList.add("stale");
    banner.hidden = false;
    say(banner, "Live updates interrupted. What is shown is " + span(Date.now() - since) + " old; trying again in " + Math.ceil(wait / 1000) + " s.");
  }
  retry = setTimeout(connect, wait);
}

function well() { body.classList.remove("stale"); banner.hidden = true; }

function state(s) {
  live.dataset.state = paused ? "paused" : s;
  say(live, paused ? "paused" : s === "live" ? "live" : "reconnecting");
}

// job applies a frame at once to what shows the job; the rest is read again.
function job(f) {
  tail("job", f);
  if (paused) return;
  let known = false, same = false;
  for (const el of document.querySelectorAll('[data-job="' + CSS.escape(f.id) + '"]')) {
    known = true;
    if (Number(el.dataset.rev) >= f.rev) { same = true; continue; }
    el.dataset.rev = f.rev;
    same = el.dataset.state === f.state && el.id !== "job";
    if (el.dataset.state !== f.state) {
      const s = el.querySelector(".state");
      if (s) paint(s, f.state);
      el.dataset.state = f.state;
      if (el.matches("tr, li")) mark(el);
    }
    const p = el.querySelector("[data-f=progress]");
    if (p) progress(p, f);
    if (finals.includes(f.state)) el.querySelector("[data-since]")?.removeAttribute("data-since");
  }
  if (!known) fresh++;
  if (!same) refresh();
}

function paint(el, s) {
  el.className = "state s-" + s;
  el.querySelector("use").setAttribute("href", "#i-" + s);
  el.lastElementChild.textContent = s;
}

function progress(el, f) {
  el.replaceChildren();
  if (f.state !== "running") return;
  if (f.percent) {
    const bar = document.createElement("progress");
    bar.max = 100; bar.value = f.percent; bar.setAttribute("aria-label", "progress");
    const pct = document.createElement("span");
    pct.className = "pct"; pct.textContent = f.percent + " %";
    el.append(bar, pct);
  }
  if (f.step) {
    const step = document.createElement("span");
    step.className = "step"; step.textContent = f.step;
    el.append(step);
  }
}

// --- the tail of events ----------------------------------------------------------------------------------------------------

let skipped = 0;
const kept = [];
function tail(topic, f) {
  const rows = $("tail");
  if (!rows) return;
  kept.push({ event: topic, data: f });
  if (kept.length > 5000) kept.shift();
  if (paused) { say($("tail-say"), "Paused: " + ++skipped + " skipped."); return; }
  const text = topic === "job" ? [f.kind, f.state, f.key, f.resource, f.node, f.id].join(" ") : topic + " " + JSON.stringify(f);
  const q = $("q").value.trim().toLowerCase();
  if (q && !text.toLowerCase().includes(q)) return;
  const tr = document.createElement("tr");
  const cell = (v, cls) => { const td = document.createElement("td"); if (cls) td.className = cls; if (v instanceof Node) td.append(v); else td.textContent = v || ""; tr.append(td); };
  const shape = (s) => {
    const span = document.createElement("span");
    span.className = "state s-" + s;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", "#i-" + s);
    svg.append(use);
    const word = document.createElement("span");
    word.textContent = s;
    span.append(svg, word);
    return span;
  };
  cell(new Date(now()).toLocaleTimeString(undefined, { hour12: false }), "num");
  if (topic === "job") {
    cell(shape(f.state)); cell(f.kind); cell(f.key || f.resource); cell(f.state === "running" && f.percent ? f.percent + " % " + (f.step || "") : f.step); cell(f.node);
    const a = document.createElement("a");
    a.href = new URL("jobs/" + f.id, root); a.textContent = f.id.slice(-8);
    cell(a, "mono");
  } else {
    cell(topic === "member" && f.id ? shape(f.state) : "changed"); cell(topic); cell(f.id || f.operation || f.pool || f.node); cell(""); cell(topic === "member" ? f.id : ""); cell("");
  }
  rows.prepend(tr);
  while (rows.rows.length > 300) rows.lastElementChild.remove();
}

// --- theme, help, keys -----------------------------------------------------------------------------------------------------

const themes = ["auto", "light", "dark"];
function theme(next) {
  const t = next || store.get("theme") || "auto";
  const html = document.documentElement;
  delete html.dataset.dark; delete html.dataset.light;
  if (t !== "auto") html.dataset[t] = "";
  if (next) store.set("theme", t === "auto" ? null : t);
  say($("theme"), t[0].toUpperCase() + t.slice(1));
}
const turn = () => theme(themes[(themes.indexOf(store.get("theme") || "auto") + 1) % 3]);

export function pause() {
  paused = !paused; skipped = 0;
  state(connected ? "live" : "lost");
  if ($("tail-say")) say($("tail-say"), paused ? "Paused: 0 skipped." : "Listening.");
  if (!paused) refresh(true);
}

const rows = () => [...document.querySelectorAll("#rows tr[data-href], .line li[data-href]")];
const here = () => document.querySelector("tr.here, li.here");
function go(step) {
  const list = rows(), at = list.indexOf(here());
  const next = list[Math.min(list.length - 1, Math.max(0, at + step))];
  if (!next) return;
  here()?.classList.remove("here");
  next.classList.add("here");
  if (next.id) history.replaceState(null, "", "#" + next.id);
  next.querySelector("a.open")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}
const press = (key) => {
  const b = (here() || document).querySelector('[data-key="' + key + '"]') || document.querySelector('#verbs [data-key="' + key + '"]') || (key === "c" && here()?.querySelector("form[data-verb=cancel] button"));
  if (b) { b.click(); return true; }
  return false;
};
function pick(el) { const box = el?.querySelector("input[name=id]"); if (box) box.click(); return box; }

let g = false;
const keys = {
  "?": () => $("keys").showModal(),
  "/": () => { $("q")?.focus(); $("q")?.select(); },
  j: () => go(1), k: () => go(-1), ArrowDown: () => go(1), ArrowUp: () => go(-1),
  Enter: () => { if (here()) location.href = here().dataset.href; },
  x: () => pick(here()), "*": () => $("all")?.click(),
  c: () => press("c") || bulkKey("cancel"), r: () => press("r") || bulkKey("retry"),
  p: () => press("p") || ($("tail") && pause()),
  u: () => document.querySelector(".toast [data-undo]")?.click(),
  ".": pause, t: turn,
  Escape: () => { if (document.querySelector("#rows input:checked")) $("pick-none")?.click(); else if (history.length > 1 && main.querySelector(".crumb")) history.back(); },
};
// bulkKey acts on the row at hand, as if it were the only one selected.
function bulkKey(verb) {
  const b = document.querySelector('[data-bulk="' + verb + '"]');
  if (!b) return false;
  if (!document.querySelector("#rows input:checked")) { if (!pick(here())) return false; }
  b.click();
  return true;
}

function onKey(e) {
  const field = e.target.closest("input:not([type=checkbox]), textarea, select");
  if (field) { if (e.key === "Escape") field.blur(); return; }
  if (e.ctrlKey || e.metaKey || document.querySelector("dialog[open]") || store.get("keys") === "off") return;
  if (e.altKey) { if (document.dispatchEvent(new CustomEvent("drover:move", { detail: e.key, cancelable: true }))) return; e.preventDefault(); return; }
  if (g) {
    g = false;
    const a = document.querySelector('.top nav [data-key="g ' + CSS.escape(e.key) + '"]');
    if (a) { e.preventDefault(); a.click(); }
    return;
  }
  if (e.key === "g") { g = true; setTimeout(() => { g = false; }, 1200); return; }
  if (e.key === "Enter" && e.target.closest("a, button, summary")) return;
  if (Object.hasOwn(keys, e.key)) { e.preventDefault(); keys[e.key](); }
}

// --- start -----------------------------------------------------------------------------------------------------------------

$("theme").hidden = $("help").hidden = false;
$("theme").addEventListener("click", turn);
$("help").addEventListener("click", keys["?"]);
$("keys-on").checked = store.get("keys") !== "off";
$("keys-on").addEventListener("change", (e) => store.set("keys", e.target.checked ? null : "off"));
$("times").value = times;
$("times").addEventListener("change", (e) => { times = e.target.value; store.set("times", times); tick(); });
document.addEventListener("keydown", onKey);
document.addEventListener("click", (e) => {
  const tr = e.target.closest("tr[data-href]");
  if (tr && !e.target.closest("a, button, input, label, form") && !getSelection().toString()) location.href = tr.dataset.href;
  if (e.target.closest("#fresh button")) { window.scrollTo(0, 0); refresh(true); }
});
$("tail-save")?.addEventListener("click", () => {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([kept.map((e) => JSON.stringify(e) + "\n").join("")], { type: "application/x-ndjson" }));
  a.download = "events.ndjson";
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 1000);
});
$("filter")?.addEventListener("submit", (e) => { if ($("tail")) e.preventDefault(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
window.addEventListener("pageshow", (e) => { if (e.persisted) { connect(); refresh(true); } });
window.addEventListener("pagehide", () => source?.close());
if (location.search.includes("notice=") || location.search.includes("problem=")) {
  const u = new URL(location.href);
  u.searchParams.delete("notice"); u.searchParams.delete("problem");
  history.replaceState(null, "", u);
}
setInterval(tick, 1000);
setInterval(tell, 5000);
setInterval(() => { if (!document.hidden) refresh(); }, Number(body.dataset.poll) * 1000);
setInterval(() => { if (!connected && !document.hidden) refresh(); }, 10_000);
theme();
document.querySelector('.top nav [aria-current="page"]')?.scrollIntoView({ inline: "center", block: "nearest" });
steering({ root, refresh, span });
looks({ root, store });
if (/^#[jmt]-/.test(location.hash)) $(location.hash.slice(1))?.classList.add("here");
tick();
live.dataset.state = "lost";
say(live, "connecting");
connect();
