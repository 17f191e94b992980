"use strict";
// Sorts the table of trials by a column, empty cells last.

const table = document.getElementById("trials"), headings = [...table.tHead.rows[0].cells];

function sortKey(row, column) {
  const cell = row.cells[column], text = cell.dataset.key ?? cell.textContent.trim(), number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text;
}

function sortBy(heading, column) {
  const isUp = heading.getAttribute("aria-sort") !== "ascending";
  headings.forEach(other => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", isUp ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const x = sortKey(a, column), y = sortKey(b, column);
    if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return isUp ? order : -order;
  });
  table.tBodies[0].append(...rows);
}

headings.forEach((heading, column) => heading.firstChild.addEventListener("click", () => sortBy(heading, column)));
