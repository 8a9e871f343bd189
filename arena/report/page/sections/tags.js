// The table of all tags.
{
  let tags = null;
  let widest = 1;
  let key, category, search, first, second;
  const differing = () => [first, second].map((made) => Number(made.value));

  function rows() {
    const [a, b] = differing();
    const found = names.map((name, index) => {
      const row = { index, name, category: categories[index], count: counts[index] };
      models.forEach((model, at) => { row[`model${at}`] = model.per_tag[key.value][index]; });
      row.difference = row[`model${a}`] - row[`model${b}`];
      return row;
    });
    widest = Math.max(...found.map((row) => Math.abs(row.difference))) || 1;
    return found;
  }

  function differenceCell(cell) {
    const value = cell.getValue();
    const [a, b] = differing();
    const bar = el("i", { "aria-hidden": "true" });
    const long = 50 * Math.abs(value) / widest;
    bar.style.setProperty("--bar", paint(value > 0 ? a : b));
    bar.style.setProperty("--from", `${value > 0 ? 50 : 50 - long}%`);
    bar.style.setProperty("--long", `${long}%`);
    return el("span", { className: "difference" }, el("span", {}, signed(value)), bar);
  }

  function makeTable() {
    const columns = [
      { field: "name", titleFormatter: gridHead("Tag"), sorter: "string", frozen: true,
        minWidth: narrow() ? 128 : 180, formatter: (cell) => tagButton(cell.getData().index) },
      { field: "category", titleFormatter: gridHead("Category"), minWidth: 108, visible: !narrow() },
      { field: "count", titleFormatter: gridHead("Posts"), ...gridNumber, minWidth: 78,
        formatter: (cell) => whole(cell.getValue()) },
      ...models.map((model, index) => ({
        field: `model${index}`, ...gridNumber, minWidth: 92,
        titleFormatter: gridHead(model.label, paint(index)),
        formatter: (cell) => shown(cell.getValue()),
      })),
    ];
    if (severalModels) {
      columns.push({ field: "difference", titleFormatter: gridHead("Difference"), ...gridNumber,
        minWidth: 180, formatter: differenceCell });
    }
    tags = new Tabulator("#tags-table", {
      ...gridOptions, data: rows(), columns, index: "index", paginationSize: 25,
      paginationSizeSelector: [25, 50, 100, 250], placeholder: "No tag matches.",
      initialSort: [{ column: "count", dir: "desc" }],
    });
    tags.on("dataFiltered", (_, left) => {
      byId("tags-count").textContent = `${whole(left.length)} of ${whole(names.length)} tags`;
    });
    tags.on("tableBuilt", () => {
      showsMore(byId("tags-box"), document.querySelector("#tags-table .tabulator-tableholder"));
      fit();
    });
  }

  const narrow = () => byId("tags-table").clientWidth < 560;

  // Shows the columns of the models that are switched on, and of the category where there is room.
  function fit() {
    gridShows(tags, { category: !narrow(), difference: visibleModels().length > 1,
      ...Object.fromEntries(models.map((_, index) => [`model${index}`, visible[index]])) });
  }

  function filter() {
    const fold = (text) => text.toLowerCase().replace(/\s+/g, "_");
    const wanted = fold(search.value.trim());
    tags.setFilter((row) => (category.value === "" || row.category === category.value) &&
      fold(row.name).includes(wanted));
  }

  const retag = () => tags.replaceData(rows());

  // All rows that the search leaves, in the order shown, as text.
  function text() {
    const indices = visibleModels();
    const [a, b] = differing();
    const two = severalModels && indices.length > 1;
    const head = ["Tag", "Category", "Posts",
      ...indices.map((index) => `${models[index].label} ${FIGURES[key.value]}`),
      ...(two ? [`${models[a].label} − ${models[b].label}`] : [])];
    return [head, ...tags.getData("active").map((row) => [row.name, row.category,
      String(row.count), ...indices.map((index) => shown(row[`model${index}`])),
      ...(two ? [signed(row.difference)] : [])])];
  }

  section({
    id: "tags", title: "All tags",
    build(body) {
      search = el("input", { type: "search", id: "tags-search", autocomplete: "off",
        spellcheck: false });
      search.addEventListener("input", filter);
      const parts = [
        ["Category", [["", "all"], ...[...new Set(categories)].map((name) => [name, name])], "",
          filter],
        ["Figure", figureOptions, "f1", retag], ["Difference", [], "", retag],
        ["minus", [], "", retag],
      ].map((given) => select(...given));
      [category, key, first, second] = parts.map(([, made]) => made);
      [category.id, key.id, first.id, second.id] =
        ["tags-category", "tags-figure", "tags-a", "tags-b"];
      const [inCategory, inFigure, ...pair] = parts.map(([label]) => label);
      body.append(
        note("Click a column's head to sort. A tag opens its curve, its scores and the posts on " +
          "which each model was most wrong about it."),
        controls(el("label", {}, "Search ", search), inCategory, inFigure,
          ...(severalModels ? [el("span", { className: "together", id: "tags-pair" }, ...pair)]
            : []),
          el("span", { id: "tags-count", role: "status" })),
        el("div", { className: "box", id: "tags-box" }, el("div", { id: "tags-table" })),
        copyButtons(text, "all tags"));
      byId("tags-table").addEventListener("keydown", gridWalk);
    },
    draw() {
      const before = differing().join();
      offer(first, 0);
      offer(second, 1);
      if (severalModels) byId("tags-pair").hidden = visibleModels().length < 2;
      if (!tags) return makeTable();
      if (differing().join() !== before) retag();
      return fit();
    },
  });
}
