"use strict";
// Walks through the steps of an example episode by keyboard, and opens what a link leads to.
// Everything on the page can be read and opened without it.
(() => {
  const NEXT = ["j", "ArrowDown", "ArrowRight"], BACK = ["k", "ArrowUp", "ArrowLeft"];
  let walked = null; // the step that walking opened, and closes again when it goes on

  const go = (step) => {
    const details = step.querySelector("details");
    if (walked && walked !== details) walked.open = false;
    if (!details.open) walked = details;
    details.open = true;
    const summary = details.querySelector("summary");
    summary.focus({ preventScroll: true });
    summary.scrollIntoView({ block: "nearest" });
  };

  const target = (key, at, last) => {
    if (NEXT.includes(key)) return Math.min(at + 1, last);
    if (BACK.includes(key)) return Math.max(at - 1, 0);
    return key === "Home" ? 0 : key === "End" ? last : null;
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (event.target.closest("pre, a, .scroll")) return;
    const within = event.target.closest(".episode");
    const letter = event.key === "j" || event.key === "k";
    const episode = within || (letter ? document.querySelector(".episode[open]") : null);
    if (!episode || !episode.open) return;
    const steps = [...episode.querySelectorAll(".steps > li")];
    const at = steps.findIndex((step) => step.contains(document.activeElement));
    const next = target(event.key, at, steps.length - 1);
    if (next === null || !steps.length) return;
    event.preventDefault();
    go(steps[next]);
  });

  const reveal = () => {
    const found = document.getElementById(location.hash.slice(1));
    const own = found && found.closest("details");
    if (!own) return;
    for (let up = own; up; up = up.parentElement.closest("details")) up.open = true;
    const summary = own.querySelector("summary");
    summary.focus({ preventScroll: true });
    summary.scrollIntoView({ block: "start" });
  };
  window.addEventListener("hashchange", reveal);
  // A second click on the same link changes no hash.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) setTimeout(reveal);
  });
  reveal();
})();
