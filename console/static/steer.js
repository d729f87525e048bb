// Verbs: they ask where something cannot be taken back, act, and show what the component answered.

const $ = (id) => document.getElementById(id);
let root, refresh;

export function toast(text, opts = {}) {
  const el = document.createElement("div");
  el.className = "toast" + (opts.bad ? " bad" : "");
  const say = document.createElement("span");
  say.textContent = text;
  el.append(say);
  if (opts.undo) {
    const b = document.createElement("button");
    b.type = "button"; b.dataset.undo = ""; b.textContent = "Undo";
    b.addEventListener("click", () => { el.remove(); opts.undo(); });
    el.append(b);
  }
  $("toasts").append(el);
  setTimeout(() => el.remove(), opts.bad || opts.undo ? 10_000 : 5000);
}

// send posts JSON and answers what came back; a refusal is shown and thrown.
export async function send(url, data) {
  let res, out = null;
  try {
    res = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) });
    out = await res.json();
  } catch { /* shown below */ }
  if (!res?.ok) {
    toast(out?.detail || out?.title || "No answer. Try again.", { bad: true });
    refresh(true);
    throw new Error(out?.code || "no answer");
  }
  return out;
}

// ask shows the dialog; null: keep as it is.
export function ask({ title, text, yes, reason, confirm, number }) {
  const d = $("ask"), form = d.querySelector("form");
  form.reset();
  $("ask-title").textContent = title;
  $("ask-text").textContent = text || "";
  $("ask-reason").hidden = !reason;
  $("ask-confirm").hidden = !confirm;
  $("ask-number").hidden = !number;
  form.number.disabled = !number;
  form.confirm.required = Boolean(confirm);
  form.confirm.pattern = confirm ? confirm.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&") : "";
  $("ask-confirm").querySelector("code").textContent = confirm || "";
  const ok = form.querySelector("[value=yes]");
  ok.textContent = yes;
  d.returnValue = "";
  d.showModal();
  (number ? form.number : confirm ? form.confirm : reason ? form.reason : ok).focus();
  return new Promise((done) => {
    d.addEventListener("close", () => done(d.returnValue === "yes" ? { reason: form.reason.value, confirm: form.confirm.value, number: Number(form.number.value) } : null), { once: true });
  });
}

const said = {
  cancel: (o) => o.accepted === "cancelled" ? "Cancelled." : "Cancel requested: its handler is told to stop.",
  retry: (o) => "A new job was made: " + o.id.slice(-8), hold: () => "Held.", wake: () => "Woken.", fence: () => "Fenced.", priority: (o) => "Priority is " + o.priority + " now.",
  limit: () => "Limit changed.", resize: () => "Workers changed.", clear: () => "The line is cleared.", pause: () => "Paused.", resume: () => "Resumed.",
  mark: () => "Marked.", "confirm-down": () => "Confirmed: it is down.", forget: () => "Forgotten.", drain: () => "It drains.", undrain: () => "It takes work again.",
  trigger: () => "It runs now.", enable: () => "Enabled.", disable: () => "Disabled.", reschedule: (o) => "Due " + o.run_at + ".",
};
const numbers = new Set(["priority", "limit", "workers"]);

async function submit(form) {
  const { verb } = form.dataset;
  const data = {};
  for (const [k, v] of new FormData(form)) if (k !== "back") data[k] = numbers.has(k) ? Number(v) : k === "keep_steps" ? true : v;
  if (form.dataset.ask) {
    const a = await ask({ title: form.dataset.ask, text: form.dataset.say, yes: form.dataset.do, reason: "reason" in form.dataset, confirm: form.dataset.confirm });
    if (!a) return;
    if ("reason" in form.dataset) data.reason = a.reason;
    if (form.dataset.confirm) data.confirm = a.confirm;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const out = await send(form.action, data);
    const name = verb === "resize" ? "workers" : numbers.has(verb) ? verb : null;
    let undo = null;
    if (form.dataset.undo) undo = () => send(form.action.replace(/[^/]+$/, form.dataset.undo), data.node ? { node: data.node } : {}).then(() => refresh(true));
    if (name && form.dataset.was !== undefined) { const was = Number(form.dataset.was); undo = () => send(form.action, { [name]: was }).then(() => refresh(true)); }
    if (verb === "retry") { location.href = new URL("jobs/" + out.id, root); return; }
    toast((said[verb] || (() => "Done."))(out), { undo });
    document.activeElement?.blur?.();
  } catch { /* shown */ }
  button.disabled = false;
  refresh(true);
}

// --- many at once ------------------------------------------------------------------------------------------------------------

let allMatching = 0;
const boxes = () => [...document.querySelectorAll("#rows input[name=id]")];
const filterOf = () => Object.fromEntries($("bulk").dataset.filter.split("\n").filter(Boolean).map((l) => { const i = l.indexOf("="); return [l.slice(0, i), l.slice(i + 1)]; }));

function picked() {
  const bar = $("bulk");
  if (!bar) return;
  const n = boxes().filter((b) => b.checked).length;
  bar.dataset.own = "";
  bar.hidden = n === 0;
  if (n === 0) allMatching = 0;
  $("picked").textContent = allMatching ? allMatching + " that match" : n + " selected";
  $("pick-all").hidden = allMatching > 0 || !bar.dataset.more || n < boxes().length;
  if ($("all")) { $("all").checked = n > 0 && n === boxes().length; $("all").indeterminate = n > 0 && n < boxes().length; }
}

async function bulk(verb) {
  const ids = boxes().filter((b) => b.checked).map((b) => b.value);
  const n = allMatching || ids.length;
  if (!n) return;
  const word = n === 1 ? "this job" : n + " jobs";
  const reversible = verb === "hold" || verb === "wake";
  let reason = "", priority;
  if (!reversible || n > 100) {
    const a = await ask({
      title: (verb === "priority" ? "Change the priority of" : verb[0].toUpperCase() + verb.slice(1)) + " " + word + "?", text: verb === "cancel" ? "This cannot be taken back." : verb === "retry" ? "A new job is made of each." : "",
      yes: verb === "priority" ? "Change it" : verb[0].toUpperCase() + verb.slice(1) + " " + word, confirm: n > 100 ? String(n) : null, reason: verb === "cancel", number: verb === "priority",
    });
    if (!a) return;
    reason = a.reason || "";
    if (verb === "priority") priority = a.number;
  }
  const data = allMatching ? { verb, filter: filterOf(), expect: n, reason, priority } : { verb, ids, reason, priority };
  const bar = $("bulk-progress");
  try {
    let op = await send(new URL("v1/jobs/bulk", root), data);
    bar.hidden = false;
    while (op.state === "running") {
      bar.value = (100 * (op.done + op.skipped + op.failed)) / op.matched;
      await new Promise((ok) => setTimeout(ok, 300));
      op = await (await fetch(new URL("v1/operations/" + op.id, root))).json();
    }
    const why = Object.entries(op.reasons || {}).map(([k, v]) => v + " " + k).join(", ");
    toast(verb + ": " + op.done + " done" + (op.skipped ? ", " + op.skipped + " skipped" : "") + (op.failed ? ", " + op.failed + " failed" : "") + (why ? " (" + why + ")" : "") + ".", { bad: op.done === 0 });
  } catch { /* shown */ }
  bar.hidden = true;
  allMatching = 0;
  boxes().forEach((b) => { b.checked = false; });
  picked();
  refresh(true);
}

// --- the line of a key -------------------------------------------------------------------------------------------------------

const line = () => $("waiting");
const idOf = (li) => li.dataset.job;

// move puts a job before another (its id), or first, or last.
async function move(li, to) {
  const url = line().dataset.act + "/move", job = idOf(li);
  const follower = li.nextElementSibling ? { before: idOf(li.nextElementSibling) } : "last";
  try {
    await send(url, { job, to });
    toast("Moved.", { undo: () => send(url, { job, to: follower }).then(() => refresh(true), () => {}) });
  } catch { /* shown */ }
  refresh(true);
}

function moveKey(e) {
  const li = document.querySelector("#waiting li.here");
  if (!li || !line().hasAttribute("data-move")) return;
  const prev = li.previousElementSibling, next = li.nextElementSibling;
  const to = { ArrowUp: prev && { before: idOf(prev) }, ArrowDown: next && (next.nextElementSibling ? { before: idOf(next.nextElementSibling) } : "last"), Home: prev && "first", End: next && "last" }[e.detail];
  if (to === undefined) return;
  e.preventDefault();
  if (to) move(li, to);
}

function drags() {
  let held = null;
  const over = () => document.querySelectorAll(".over").forEach((n) => n.classList.remove("over"));
  document.addEventListener("dragstart", (e) => {
    const li = e.target.closest?.("#waiting[data-move] > li");
    if (!li) return;
    held = li;
    li.classList.add("drag");
    e.dataTransfer.effectAllowed = "move";
    e.dataTransfer.setData("text/plain", idOf(li));
  });
  document.addEventListener("dragover", (e) => {
    const li = e.target.closest?.("#waiting > li");
    if (!held || !li) return;
    e.preventDefault();
    over();
    if (li !== held) li.classList.add("over");
  });
  document.addEventListener("drop", (e) => {
    const li = e.target.closest?.("#waiting > li");
    if (!held || !li || li === held) return;
    e.preventDefault();
    move(held, { before: idOf(li) });
  });
  document.addEventListener("dragend", () => { held?.classList.remove("drag"); held = null; over(); });
}

export function start(env) {
  ({ root, refresh } = env);
  document.addEventListener("submit", (e) => {
    if (!e.target.matches("form[data-verb]")) return;
    e.preventDefault();
    submit(e.target);
  });
  document.addEventListener("change", (e) => {
    if (e.target.id === "all") boxes().forEach((b) => { b.checked = e.target.checked; });
    if (e.target.matches("#all, #rows input[name=id]")) picked();
  });
  let lastBox = null;
  document.addEventListener("click", async (e) => {
    const box = e.target.closest("#rows input[name=id]");
    if (box) {
      if (e.shiftKey && lastBox) { const all = boxes(), [a, b] = [all.indexOf(lastBox), all.indexOf(box)].sort((m, n) => m - n); all.slice(a, b + 1).forEach((x) => { x.checked = box.checked; }); picked(); }
      lastBox = box;
    }
    const b = e.target.closest("button");
    if (!b) return;
    if (b.dataset.bulk) bulk(b.dataset.bulk);
    if (b.id === "pick-none") { boxes().forEach((x) => { x.checked = false; }); picked(); refresh(true); }
    if (b.id === "pick-all") { const op = await send(new URL("v1/jobs/bulk", root), { verb: document.querySelector("[data-bulk]").dataset.bulk, filter: filterOf(), dry_run: true }); allMatching = op.matched; picked(); }
    if (b.dataset.copy) {
      try { await navigator.clipboard.writeText(await (await fetch(b.dataset.copy)).text()); b.textContent = "Copied"; } catch { b.textContent = "Cannot copy"; }
      setTimeout(() => { b.textContent = "Copy"; }, 2000);
    }
    if (b.dataset.move && line()) { const li = b.closest("li"); moveKeyFor(li, b.dataset.move); }
  });
  document.addEventListener("drover:move", moveKey);
  document.addEventListener("drover:read", picked);
  drags();
  picked();
}

function moveKeyFor(li, key) {
  document.querySelector("li.here")?.classList.remove("here");
  li.classList.add("here");
  document.dispatchEvent(new CustomEvent("drover:move", { detail: key, cancelable: true }));
}
