"use strict";
// Optional comfort; the page is complete without it.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) {
    fold.open = true;
    fold.dataset.opened = "print";
  }
});
addEventListener("afterprint", () => {
  for (const fold of document.querySelectorAll("details[data-opened]")) {
    fold.open = false;
    delete fold.dataset.opened;
  }
});
const contents = document.querySelector(".contents details");
if (contents && matchMedia("(max-width: 68rem)").matches) contents.open = false;
const table = document.querySelector("table.results");
const rows = table ? [...table.querySelectorAll("tbody tr")] : [];
const place = document.createElement("p");
place.className = "unseen";
place.setAttribute("role", "status");

function makeButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  return button;
}

function say(what) {
  const shown = rows.filter((row) => !row.hidden).length;
  place.textContent = `${what}; ${shown} of ${rows.length} rows shown`;
}

function addFilter(verdicts) {
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show only results with this verdict");
  for (const verdict of ["all", ...verdicts]) {
    const matches = (row) => verdict === "all" || row.dataset.verdict === verdict;
    const button = makeButton(`${verdict} ${rows.filter(matches).length}`);
    button.setAttribute("aria-pressed", String(verdict === "all"));
    button.addEventListener("click", () => {
      for (const row of rows) row.hidden = !matches(row);
      for (const other of bar.children) other.setAttribute("aria-pressed", String(other === button));
      say(`verdict ${verdict}`);
    });
    bar.append(button);
  }
  table.parentElement.before(bar);
}

// A first click sorts, a second turns the order round, a third goes back to worst first.
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

function compare(column, one, other) {
  const [a, b] = [one, other].map((row) => row.cells[column]);
  if (a.dataset.sort === undefined) {
    return a.textContent.trim().localeCompare(b.textContent.trim(), "en", { numeric: true });
  }
  return a.dataset.sort - b.dataset.sort;
}

function sortBy(head, heads) {
  const order = NEXT[head.getAttribute("aria-sort")];
  for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
  const sign = { none: 0, ascending: 1, descending: -1 }[order];
  const sorted = [...rows].sort((a, b) => sign * compare(head.cellIndex, a, b));
  table.tBodies[0].append(...sorted);
  const name = head.textContent.toLowerCase();
  say(order === "none" ? "sorted worst first" : `sorted by ${name}, ${order}`);
}

function addSorting() {
  const heads = [...table.tHead.rows[0].cells].filter((head) => head.textContent !== "Answer");
  for (const head of heads) {
    const button = makeButton(head.textContent);
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(head, heads));
  }
}

if (rows.length > 1) {
  const verdicts = [...new Set(rows.map((row) => row.dataset.verdict))];
  if (verdicts.length > 1) addFilter(verdicts);
  table.parentElement.before(place);
  addSorting();
}
