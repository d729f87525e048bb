// Makes one tree like another, touching only what differs: focus, open details, ticked boxes and what is being typed stay.

const keyOf = (n) => (n.nodeType === 1 && n.id) || null;

export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(document.importNode(to, true));
    return;
  }
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.hasAttribute("data-tail") || from.nodeName === "NOSCRIPT") return;
  attributes(from, to);
  if (from.nodeName === "TIME" && from.dateTime === to.dateTime) return; // its text is kept true by the clock
  children(from, to);
}

function attributes(from, to) {
  const stay = (name) => name === "open" || (name === "hidden" && from.hasAttribute("data-own")) || (name === "value" && from === document.activeElement);
  for (const { name, value } of to.attributes) {
    if (!stay(name) && name !== "class" && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !stay(name) && !["class", "style", "tabindex", "data-own"].includes(name)) from.removeAttribute(name);
  }
  const own = [...from.classList].filter((c) => ["here", "changed", "drag", "over"].includes(c));
  const cls = [...to.classList, ...own].join(" ");
  if ((from.getAttribute("class") || "") !== cls) from.setAttribute("class", cls);
  if (from.nodeName === "INPUT" && from !== document.activeElement && from.type !== "checkbox") from.value = to.value;
}

function children(from, to) {
  const named = new Map();
  for (const n of from.childNodes) if (keyOf(n)) named.set(keyOf(n), n);
  const wanted = new Set([...to.childNodes].map(keyOf).filter(Boolean));
  let at = from.firstChild;
  for (const want of [...to.childNodes]) {
    const key = keyOf(want);
    const have = key ? named.get(key) : null;
    while (!key && at && keyOf(at) && !wanted.has(keyOf(at))) { const gone = at; at = at.nextSibling; gone.remove(); }
    if (have) {
      if (have === at) at = at.nextSibling;
      else from.insertBefore(have, at);
      changed(have, want);
      morph(have, want);
    } else if (!key && at && !keyOf(at) && at.nodeName === want.nodeName) {
      const next = at.nextSibling;
      morph(at, want);
      at = next;
    } else {
      const fresh = document.importNode(want, true);
      from.insertBefore(fresh, at);
      if (key && fresh.matches("tr, li")) mark(fresh);
    }
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function changed(have, want) {
  if (have.dataset?.state && have.dataset.state !== want.dataset.state) mark(have);
}

export function mark(el) {
  el.classList.add("changed");
  setTimeout(() => el.classList.remove("changed"), 1000);
}
