// Tables that scroll inside their box, show that they do, and can be copied.

// The text of a cell as it is copied: what the cell says for itself, or its text.
const copied = (cell) => cell.copied ?? cell.textContent ?? String(cell);
const markdownCell = (text) => text.replace(/[\\<&[`*]/g, "\\$&").replaceAll("|", "&#124;");
// A cell that a spreadsheet would run as a formula gets an apostrophe; a number does not.
const csvCell = (text) => {
  const number = text.replace(/^−/, "-");
  if (/^[+-]?[\d.]+$/.test(number)) return number;
  const safe = /^[=+\-@−]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
const asMarkdown = ([head, ...rows]) => [head, head.map(() => "---"), ...rows]
  .map((row, at) => `| ${row.map((text) => (at === 1 ? text : markdownCell(text))).join(" | ")} |`)
  .join("\n") + "\n";
const asCsv = (rows) => rows.map((row) => row.map(csvCell).join(",")).join("\n") + "\n";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // Not allowed, or no secure page: the old way.
    const area = el("textarea", { value: text, className: "away" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// Two buttons that copy the rows, head first, that `rows()` gives as text.
function copyButtons(rows, what) {
  const said = el("span", { role: "status" });
  const button = (word, write) => {
    const made = el("button", { type: "button", className: "quiet",
      "aria-label": `Copy ${what} as ${word}` }, `Copy as ${word}`);
    made.addEventListener("click", async () => {
      said.textContent = await copy(write(rows())) ? "Copied." : "The browser refused.";
    });
    return made;
  };
  return el("div", { className: "copy" }, button("Markdown", asMarkdown), button("CSV", asCsv),
    said);
}

// Keeps a shade on the edges of `outer` beyond which `scroller` has more to show.
function showsMore(outer, scroller) {
  const look = () => {
    const left = scroller.scrollLeft;
    const more = scroller.scrollWidth - scroller.clientWidth;
    outer.classList.toggle("more-left", left > 1);
    outer.classList.toggle("more-right", more - left > 1);
    if (scroller.getAttribute("role") === "region") scroller.tabIndex = more > 1 ? 0 : -1;
  };
  scroller.addEventListener("scroll", look, { passive: true });
  const watch = new ResizeObserver(look);
  watch.observe(scroller);
  for (const child of scroller.children) watch.observe(child);
}

// A table in a box. `heads` and cells are text or elements; `caption` names it.
function table(heads, rows, caption) {
  const made = el("table", { "aria-label": caption },
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {},
      ...row.map((cell, at) => el(at ? "td" : "th", at ? {} : { scope: "row" }, cell))))));
  const scroller = el("div", { className: "scroll", role: "region", "aria-label": caption }, made);
  const box = el("div", { className: "box" }, scroller);
  showsMore(box, scroller);
  const text = () => [heads, ...rows].map((row) => row.map(copied));
  return el("div", { className: "table" }, box, copyButtons(text, caption.toLowerCase()));
}

// A figure with its 95% range below it.
function withRange({ value, low, high }, write = shown) {
  const made = el("span", {}, write(value));
  made.copied = write(value);
  if (low !== null) {
    made.append(el("span", { className: "range" }, `${write(low)}${write === shown ? "–" : " to "}${write(high)}`));
    made.copied += ` (${write(low)} to ${write(high)})`;
  }
  return made;
}

// The models that the data cannot tell from the best: those whose difference from it has an
// interval that holds zero. Nobody, where the figure has no intervals or where that is everybody.
function best(get, sign, among) {
  const value = (index) => sign * get(models[index].overall).value;
  if (among.some((index) => get(models[index].overall).low === null)) return [];
  const first = among.reduce((top, index) => (value(index) > value(top) ? index : top), among[0]);
  const tied = among.filter((index) => {
    if (index === first) return true;
    const pair = metrics.pairs.find(({ a, b }) =>
      [a, b].includes(models[index].name) && [a, b].includes(models[first].name));
    const { low, high } = get(pair.overall);
    return low === null || (low <= 0 && high >= 0);
  });
  return tied.length < among.length ? tied : [];
}

// ---- tables that sort and turn pages (Tabulator)

const gridHead = (text, underline = "transparent") => () => {
  const made = el("button", { type: "button", className: "head" }, el("bdi", {}, text));
  made.style.borderColor = underline;
  return made;
};
const gridNumber = { hozAlign: "right", headerHozAlign: "right", sorter: "number",
  headerSortStartingDir: "desc" };
const gridOptions = { layout: "fitColumns", pagination: true, paginationButtonCount: 3,
  columnDefaults: { resizable: false } };

// Shows and hides columns, where `shows` has their field; all others are shown.
function gridShows(grid, shows) {
  for (const column of grid.getColumns()) {
    const on = shows[column.getField()] ?? true;
    if (column.isVisible() !== on) on ? column.show() : column.hide();
  }
  grid.redraw(true);
}

// Arrow keys walk the buttons of a page that open something; Tab and Enter work as on any button.
function gridWalk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.classList.contains("open")) return;
  const buttons = [...event.currentTarget.querySelectorAll(".open")];
  const next = buttons[buttons.indexOf(event.target) + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
