// What a list and a timeline look like, as this browser remembers it: hidden columns, saved views, bars or a list.

const $ = (id) => document.getElementById(id);
const html = document.documentElement;
const columns = { about: "About", prog: "Progress", node: "Node", id: "Id", try: "Failed", took: "Took", age: "Created" };
let store, root;

const saved = () => { try { return JSON.parse(store.get("views")) || []; } catch { return []; } };
const el = (tag, text, props = {}) => { const e = document.createElement(tag); if (text) e.textContent = text; return Object.assign(e, props); };

function chooseColumns() {
  const box = $("cols")?.querySelector(".pop");
  if (!box) return;
  const hidden = new Set((store.get("cols") || "").split(" ").filter(Boolean));
  box.replaceChildren(...Object.entries(columns).map(([key, text]) => {
    const label = el("label", "", { className: "check" });
    const tick = el("input", "", { type: "checkbox", checked: !hidden.has(key) });
    tick.addEventListener("change", () => {
      tick.checked ? hidden.delete(key) : hidden.add(key);
      html.classList.toggle("no-" + key, !tick.checked);
      store.set("cols", [...hidden].join(" ") || null);
    });
    label.append(tick, " " + text);
    return label;
  }));
}

function showViews() {
  const box = $("saved")?.querySelector(".pop");
  if (!box) return;
  const list = saved();
  const rows = list.map((v, i) => {
    const row = el("div", "", { className: "row" });
    const gone = el("button", "×", { type: "button", className: "quiet", ariaLabel: "Forget the view " + v.n });
    gone.addEventListener("click", () => { store.set("views", JSON.stringify(list.filter((_, k) => k !== i))); showViews(); });
    row.append(el("a", v.n, { href: new URL("jobs" + v.q, root) }), gone);
    return row;
  });
  const form = el("form", "", { className: "row" });
  const name = el("input", "", { name: "n", placeholder: "name of this view", maxLength: 40, required: true, ariaLabel: "Name of this view", autocomplete: "off" });
  form.append(name, el("button", "Save"));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    store.set("views", JSON.stringify([...list.filter((v) => v.n !== name.value), { n: name.value, q: location.search }].slice(-30)));
    showViews();
  });
  box.replaceChildren(...rows, form);
}

export function start(env) {
  ({ store, root } = env);
  chooseColumns();
  showViews();
  const pressed = () => document.querySelectorAll("[data-tlview]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.tlview === (html.dataset.tl || "bars"))));
  document.addEventListener("click", (e) => {
    const b = e.target.closest("[data-tlview]");
    if (b) {
      if (b.dataset.tlview === "list") html.dataset.tl = "list"; else delete html.dataset.tl;
      store.set("tl", html.dataset.tl || null);
      pressed();
    }
    for (const d of document.querySelectorAll("details.menu[open]")) if (!d.contains(e.target)) d.open = false;
  });
  document.addEventListener("drover:read", pressed);
  pressed();
}
