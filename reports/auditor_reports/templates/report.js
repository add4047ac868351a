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
const verdicts = [...new Set(rows.map((row) => row.dataset.verdict))];
if (verdicts.length > 1) {
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show only results with this verdict");
  for (const verdict of ["all", ...verdicts]) {
    const button = document.createElement("button");
    const count = rows.filter((row) => verdict === "all" || row.dataset.verdict === verdict).length;
    button.type = "button";
    button.textContent = `${verdict} ${count}`;
    button.setAttribute("aria-pressed", String(verdict === "all"));
    button.addEventListener("click", () => {
      for (const row of rows) row.hidden = verdict !== "all" && row.dataset.verdict !== verdict;
      for (const other of bar.children) other.setAttribute("aria-pressed", String(other === button));
    });
    bar.append(button);
  }
  table.parentElement.before(bar);
}
