// Elements out of data, and nothing out of markup: every text becomes a text node, no attribute can run anything.

const SVG = "http://www.w3.org/2000/svg";
// Controls, marks that turn the direction of text, zero-width characters, halves of surrogate pairs.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|(?<![^\u0000-\u007f])[\u200c\u200d]|[\u200c\u200d](?![^\u0000-\u007f])/g;

// Characters that could hide or turn others are written out.
export function visible(text) {
  return String(text ?? "").replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (/^on/i.test(name) || name === "style" || name === "srcdoc" || name === "src") throw new Error(`no ${name} here`);
    else if (/href$/i.test(name) && !String(value).startsWith("#")) throw new Error("links lead within the page");
    else element.setAttribute(name, value === true ? "" : visible(value));
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
}

export function show(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

// Text of others beside our own words: its direction stays its own.
export function theirs(text, className = "") {
  return h("bdi", { class: className || null }, text);
}

let fading = 0;

// A short word at the edge of the page, read out as well.
export function say(text, shown = true) {
  const said = document.getElementById("said");
  clearTimeout(fading);
  said.textContent = visible(text);
  said.classList.toggle("shown", shown && text !== "");
  fading = setTimeout(() => said.classList.remove("shown"), 5000);
}

// Asks before something is done. Escape and Cancel: false.
export function confirmed(title, text, yes, dangerous = false) {
  const dialog = document.getElementById("confirm");
  const button = document.getElementById("confirm-yes");
  document.getElementById("confirm-title").textContent = visible(title);
  document.getElementById("confirm-text").textContent = visible(text);
  button.textContent = visible(yes);
  button.className = dangerous ? "danger" : "primary";
  dialog.returnValue = "cancel";
  dialog.showModal();
  document.getElementById("confirm-no").focus();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

// A table; on a phone each row becomes a card with the columns' titles beside its cells. The roles say so whatever the
// layout is.
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = h("tr", { role: "row" }, columns.map((column) => h("th", { scope: "col", role: "columnheader", class: column.n ? "n" : null }, column.title)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { role: "table" }, h("caption", { class: "hidden" }, caption), h("thead", { role: "rowgroup" }, head),
      h("tbody", { role: "rowgroup" }, rows.map((row) => line(columns, row)))));
}

// One row: the first cell names it.
export function line(columns, row) {
  return h("tr", { role: "row" }, row.map((cell, at) => {
    const own = { class: columns[at].n ? "n" : columns[at].wide ? "wide" : null, "data-title": columns[at].title };
    return at === 0
      ? h("th", { scope: "row", role: "rowheader", ...own }, h("div", {}, cell))
      : h("td", { role: "cell", ...own }, h("div", {}, cell));
  }));
}

export function card(title, figure, notes = [], id = null) {
  return h("div", {}, h("dt", {}, title),
    h("dd", {}, h("span", { class: "figure", id }, figure), notes.filter(Boolean).map((note) => h("p", {}, note))));
}
