// The posts on which the models differ most, or one model does worst; and any post by its id.
{
  const overPairs = models.length > 2;  // Of two models a tag that differs counts once.
  let grid = null;
  let which, search, said;
  let asked = 0;  // How often an id was: a file may arrive after the next one was asked for.

  // How many tags not all of the models switched on decide alike, and over how many pairs of a tag
  // and two of the models.
  function differing({ wrong }) {
    const indices = visibleModels();
    const counts = new Map();
    for (const index of indices) {
      for (const tag of wrong[index]) counts.set(tag, (counts.get(tag) ?? 0) + 1);
    }
    const apart = [...counts.values()].map((count) => count * (indices.length - count));
    return { tags: apart.filter(Boolean).length, pairs: apart.reduce((sum, each) => sum + each, 0) };
  }

  const rows = () => [...chosenPosts].map(([id, record]) => {
    const { tags, pairs } = differing(record);
    const of = models.map((_, index) => given(record, index));
    const row = { id, own: record.truth.length, tags, pairs,
      missed: of[0].missed.length, invented: of[0].invented.length };
    of.forEach(({ f1 }, index) => { row[`model${index}`] = f1; });
    return row;
  });

  const column = (field, title, more = {}) => ({ field, ...gridNumber, minWidth: 84,
    titleFormatter: gridHead(title), formatter: (cell) => whole(cell.getValue()), ...more });
  const columns = () => [
    { field: "id", titleFormatter: gridHead("Post"), sorter: "number", frozen: true,
      minWidth: ownImages ? 148 : 104, formatter: (cell) => postButton(cell.getValue()) },
    ...(severalModels
      ? [column("tags", "Tags that differ"),
        ...(overPairs ? [column("pairs", "Over all pairs")] : [])]
      : [column("missed", "Missed"), column("invented", "False")]),
    ...models.map((model, index) => column(`model${index}`, `${model.label}, F1`, { minWidth: 92,
      titleFormatter: gridHead(`${model.label}, F1`, paint(index)),
      formatter: (cell) => shown(cell.getValue()) })),
    column("own", "Its tags"),
  ];

  function makeGrid() {
    grid = new Tabulator("#posts-table", {
      ...gridOptions, data: rows(), columns: columns(), paginationSize: 10,
      paginationSizeSelector: [10, 25, 50, 100], placeholder: "No such post.",
      initialSort: [severalModels ? { column: overPairs ? "pairs" : "tags", dir: "desc" }
        : { column: "model0", dir: "asc" }],
    });
    grid.on("dataFiltered", (_, left) => {
      byId("posts-count").textContent = `${whole(left.length)} of ${whole(chosenPosts.size)} posts`;
    });
    grid.on("tableBuilt", () => {
      showsMore(byId("posts-box"), document.querySelector("#posts-table .tabulator-tableholder"));
      fit();
    });
  }

  function fit() {
    const several = visibleModels().length > 1;
    const shows = { tags: several, pairs: visibleModels().length > 2,
      ...Object.fromEntries(models.map((_, index) => [`model${index}`, visible[index]])) };
    gridShows(grid, shows);
  }

  // With two models switched on, the posts on which one of them is better.
  function offerWhich() {
    if (!severalModels) return;
    const indices = visibleModels();
    const chosen = which.value;
    which.replaceChildren(el("option", { value: "" }, "all"), ...indices.map((index) =>
      el("option", { value: index }, `${short(models[index].label)} better`)));
    which.value = indices.includes(Number(chosen)) ? chosen : "";
    byId("posts-which-box").hidden = indices.length !== 2;
  }

  function filter() {
    const indices = visibleModels();
    const one = Number(which?.value || NaN);
    const other = indices.find((index) => index !== one);
    const choosing = indices.length === 2 && indices.includes(one);
    grid.setFilter((row) => !choosing || row[`model${one}`] > row[`model${other}`]);
  }

  async function find() {
    const mine = asked += 1;
    const text = search.value.trim();
    const number = /^#?(\d+)$/.exec(text) ?? /\/posts\/(\d+)/.exec(text);
    if (!number) {
      said.textContent = text ? "That is no ID of a post." : "";
      return;
    }
    const id = Number(number[1]);
    const found = await recordOf(id);
    if (mine !== asked) return;
    said.textContent = found === NOT_SCORED ? `Post ${id} is none of those scored.`
      : found === NOT_HERE ? `Only the posts below can be shown: ${NOT_HERE}.` : "";
    if (!said.textContent) openPost(id);
  }

  // All rows that are shown, in their order, as text.
  function text() {
    const indices = visibleModels();
    const counts = severalModels ? [["Tags that differ", "tags"], ["Over all pairs", "pairs"]]
      : [["Missed", "missed"], ["False", "invented"]];
    const head = ["Post", ...counts.map(([name]) => name),
      ...indices.map((index) => `${models[index].label}, F1`), "Its tags"];
    return [head, ...grid.getData("active").map((row) => [String(row.id),
      ...counts.map(([, field]) => String(row[field])),
      ...indices.map((index) => shown(row[`model${index}`])), String(row.own)])];
  }

  section({
    id: "posts", title: "Posts",
    build(body) {
      search = el("input", { type: "search", id: "posts-search", autocomplete: "off",
        spellcheck: false, inputMode: "numeric" });
      search.addEventListener("keydown", (event) => event.key === "Enter" && find());
      const open = el("button", { type: "button", id: "posts-open" }, "Open");
      open.addEventListener("click", find);
      said = el("span", { id: "posts-said", role: "status" });
      const [label, made] = select("Show", [], "", filter);
      [which, made.id] = [made, "posts-which"];
      body.append(
        note("What each model says of a post, at its own threshold: which of the post's tags it " +
          "finds or misses and which others it gives, of the tags that all models know."),
        controls(el("label", {}, "Post ID ", search), open, said),
        el("h3", {}, severalModels ? "The posts on which the models differ most"
          : "The posts on which the model does worst"),
        note(severalModels
          ? "Tags that differ are those that one model gives the post and another does not, rightly " +
            `or not. ${overPairs ? "Over all pairs, a tag counts once for every two models that " +
            "differ about it. " : ""}Here are the ${counted(chosenPosts.size, "posts")} with the ` +
            `most${overPairs ? ", over all pairs of the report's models" : ""}.`
          : `Here are the ${counted(chosenPosts.size, "posts")} on which its F1 is lowest, of those ` +
            "that have a tag.", " F1 is that of the post's tags alone."),
        controls(...(severalModels ? [el("span", { id: "posts-which-box" }, label)] : []),
          el("span", { id: "posts-count", role: "status" })),
        el("div", { className: "box", id: "posts-box" }, el("div", { id: "posts-table" })),
        copyButtons(text, "posts"));
      byId("posts-table").addEventListener("keydown", gridWalk);
    },
    draw() {
      offerWhich();
      if (!grid) return makeGrid();
      grid.replaceData(rows()).then(filter);
      return fit();
    },
  });
}
