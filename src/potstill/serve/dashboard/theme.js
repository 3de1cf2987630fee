// Before the first paint: the look that was chosen here, if one was. The rest follows the system.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("potstill-theme");
  } catch {
    chosen = null; // storage is off: the choice holds until the page is left
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
