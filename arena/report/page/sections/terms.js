// Figures that do not rest on the authors' thresholds, or not on rare tags, or are of a post.
{
  const LEVELS = [
    ["Recall at 90% precision", (overall) => entry(overall.recall_at_precision, "0.90")],
    ["Recall at 80% precision", (overall) => entry(overall.recall_at_precision, "0.80")],
    ["Precision at 50% recall", (overall) => entry(overall.precision_at_recall, "0.50")],
  ];
  const PER_IMAGE = [["Tags", "tags"], ["False tags", "false_tags"], ["F1", "f1"]];
  const least = Object.keys(metrics.min_counts).filter((count) =>
    models.every(({ overall }) => entry(overall.min_count, count)));
  const few = (value) => value.toFixed(2);
  let key;

  const pairsShown = () => metrics.pairs.flatMap((pair) => {
    const [a, b] = [pair.a, pair.b].map((name) =>
      models.findIndex((model) => model.name === name));
    return visible[a] && visible[b]
      ? [[el("span", {}, named(a), " − ", named(b)), pair]] : [];
  });
  const perModel = (cells) => visibleModels().map((index) =>
    [named(index), ...cells(models[index].overall)]);
  const cell = (found, write) => (found ? withRange(found, write) : "–");

  function draw() {
    byId("terms-levels").replaceChildren(table(["Model", ...LEVELS.map(([head]) => head)],
      perModel((overall) => LEVELS.map(([, get]) => cell(get(overall)))), "At the same terms"));
    byId("terms-images").replaceChildren(table(["Model", ...PER_IMAGE.map(([head]) => head)],
      perModel((overall) => PER_IMAGE.map(([, name]) =>
        withRange(overall.per_image[name], name === "f1" ? shown : few))), "Figures per image"));
    if (least.length) drawRare();
    if (severalModels) drawWins();
  }

  function drawRare() {
    const heads = least.map((count) =>
      `${count}+ posts: ${counted(metrics.min_counts[count], "tags")}`);
    const get = (overall, count) => overall.min_count[count][key.value];
    const pairs = pairsShown();
    byId("terms-rare").replaceChildren(
      table(["Model", ...heads], perModel((overall) =>
        least.map((count) => withRange(get(overall, count)))), "Without rare tags"),
      ...(pairs.length ? [table(["Pair", ...heads], pairs.map(([name, pair]) => [name,
        ...least.map((count) => withRange(get(pair.overall, count), signed))]),
      "Differences without rare tags")] : []));
  }

  function drawWins() {
    const pairs = pairsShown();
    byId("terms-wins").replaceChildren(pairs.length ? table(
      ["Pair", ...["F1", "AP"].flatMap((name) => [`First better, ${name}`, `Second better, ${name}`,
        `Alike, ${name}`, `Of these both 0, ${name}`])],
      pairs.map(([name, { by_tag: found }]) => [name, ...["f1", "ap"].flatMap((each) =>
        ["wins", "losses", "ties", "both_zero"].map((side) => whole(found[each][side])))]),
      "Tags won and lost") : note("Switch on two models."));
  }

  section({
    id: "terms", title: "At the same terms", short: "Same terms", draw,
    build(body) {
      const [label, made] = select("Figure", [["f1", "F1"], ["ap", "AP"]], "f1", drawRare);
      made.id = "terms-figure";
      key = made;
      body.append(
        note("At the one threshold, for all tags, where a model reaches so much precision or " +
          "recall, micro: no author's choice of threshold is in it. Per image, at the model's own " +
          "threshold: how many tags a post gets, how many of them are false, and the mean F1 of a " +
          "post's tags."),
        el("div", { className: "pair" },
          el("div", {}, el("h3", {}, "Recall and precision at a level"),
            el("div", { id: "terms-levels" })),
          el("div", {}, el("h3", {}, "Per image"), el("div", { id: "terms-images" }))),
        ...(least.length ? [el("details", {}, el("summary", {}, "Without rare tags"),
          note("Macro figures over the tags on so many posts: where the order of the models " +
            "changes from left to right, rare tags decide it. Differences have a range, single " +
            "figures have none."),
          controls(label), el("div", { id: "terms-rare" }))] : []),
        ...(severalModels ? [el("details", {}, el("summary", {}, "Tags won and lost, pair by pair"),
          el("div", { id: "terms-wins" }))] : []));
    },
  });
}
