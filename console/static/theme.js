// Before the first paint: the theme that was chosen, so that nothing flashes.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  let theme = null;
  try { theme = localStorage.getItem("drover.theme"); } catch { /* no storage */ }
  try {
    for (const c of (localStorage.getItem("drover.cols") || "").split(" ")) if (/^[a-z]+$/.test(c)) root.classList.add("no-" + c);
    if (localStorage.getItem("drover.tl") === "list") root.dataset.tl = "list";
  } catch { /* no storage */ }
  if (theme === "dark") root.dataset.dark = "";
  if (theme === "light") root.dataset.light = "";
})();
