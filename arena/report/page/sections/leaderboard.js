// The means of every model, at a choice of thresholds.
{
  const OPTIMISTIC = "At the one threshold that gives this model its highest macro F1 on these posts: a little optimistic, so it has no range.";
  const CROSS_FIT = "that was best on one half of the posts, scored on the other half: what tuned thresholds honestly give. No range, as none was found to hold.";
  // Where the figures are in Overall, which mean, and two ways to say it.
  const SETS = [
    [["own"], "macro", "own threshold",
      "The headline: each model at the threshold its authors give, every tag counting the same."],
    [["own"], "micro", "own threshold",
      "Each model at the threshold its authors give; common tags count most."],
    [["equal"], "macro", "precision = recall",
      "At the threshold where micro precision and recall are equal, which takes the choice of threshold out of the comparison."],
    [["equal"], "micro", "precision = recall",
      "At the threshold where micro precision and recall are equal."],
    [["best"], "macro", "best single threshold (optimistic)", OPTIMISTIC],
    [["best"], "micro", "best single threshold (optimistic)", OPTIMISTIC],
    [["cross_fit", "one"], "macro", "cross-fit: one threshold",
      `One threshold for all tags ${CROSS_FIT}`],
    [["cross_fit", "category"], "macro", "cross-fit: a threshold per category",
      `A threshold for each category of tags ${CROSS_FIT}`],
    [["cross_fit", "tag"], "macro", "cross-fit: a threshold per tag",
      `A threshold for each tag, of a rare one its category's, ${CROSS_FIT}`],
    [["per_tag_best"], "macro", "a threshold per tag (optimistic)",
      "Each tag at the threshold that is best on the very posts it is scored on: an upper bound, not a result to expect, so it has no range."],
  ];
  let choice;
  // The one threshold, or how many there are.
  const thresholdOf = ({ mean_of: parts }, { threshold }, [first, kind]) => (
    typeof threshold === "number" ? shown(threshold)
    : parts.length && first === "own" ? "their mean"
    : threshold === null || kind === "category" ? "by category"
    : kind === "one" ? "one for each half" : "per tag");
  const indexOf = new Map(models.map((model, index) => [model.name, index]));

  function draw() {
    const [path, way, , about] = SETS[choice.value];
    const at = (overall) => path.reduce((found, key) => found[key], overall);
    byId("leaderboard-about").textContent = about;
    const order = visibleModels().sort((a, b) =>
      at(models[b].overall)[way].f1.value - at(models[a].overall)[way].f1.value);
    const columns = [
      ["F1", (overall) => at(overall)[way].f1, 1],
      ["AP", (overall) => overall.ap[way], 1],
      ...["precision", "recall", "mcc"].map((key) =>
        [FIGURES[key], (overall) => at(overall)[way][key], 1]),
      ["Coverage", (overall) => overall.coverage, 1],
      ["Calibration error", (overall) => overall.calibration_error, -1],
    ];
    const bold = columns.map(([, get, sign]) => best(get, sign, order));
    const rows = order.map((index) => {
      const { overall, maybe_seen } = models[index];
      const seen = ownImages ? 0 : maybe_seen;
      const name = named(index);
      if (seen === null || seen) name.lastChild.append(seen === null ? "?" : "*");
      return [name, ...columns.map(([, get], column) => {
        const cell = withRange(get(overall));
        if (!bold[column].includes(index)) return cell;
        return Object.assign(el("b", {}, cell), { copied: cell.copied });
      }), thresholdOf(models[index], at(overall), path)];
    });
    byId("leaderboard-table").replaceChildren(
      table(["Model", ...columns.map(([head]) => term(head)), "Threshold"], rows, "Leaderboard"));

    const rising = order.toReversed();
    const traces = [["x", "F1", (overall) => at(overall)[way].f1],
      ["x2", "AP", (overall) => overall.ap[way]]]
      .flatMap(([xaxis, word, get]) => rising.map((index, row) => {
        const found = get(models[index].overall);
        return {
          ...ofModel(index), x: [found.value], y: [row], xaxis, mode: "markers",
          marker: { color: colour(index), size: 10, symbol: symbol(index) },
          error_x: bars([found], index),
          hovertemplate: `%{meta[0]}<br>${word} %{x:.4f}${rangeText(found)}<extra></extra>`,
        };
      }));
    const narrow = byId("leaderboard-plot").clientWidth < 600;
    const shape = layout(`F1, ${way}`, "", {
      xaxis: { domain: [0, narrow ? 0.44 : 0.475], nticks: narrow ? 3 : 6 },
      yaxis: { tickvals: rising.map((_, row) => row), range: [-0.6, rising.length - 0.4],
        ticktext: rising.map((index) => markup(short(models[index].label, narrow ? 14 : 26))) },
      height: 80 + 30 * rising.length,
    });
    shape.xaxis2 = { ...shape.xaxis, domain: [narrow ? 0.56 : 0.525, 1],
      title: { text: `AP, ${way}`, standoff: 10 } };
    plot("leaderboard-plot", "F1 and average precision of each model with their intervals; the " +
      "table above holds the numbers", traces, shape);
    drawPairs();
  }

  function drawPairs() {
    if (!severalModels) return;
    const heads = [["F1, macro", (overall) => overall.own.macro.f1],
      ["AP, macro", (overall) => overall.ap.macro], ["F1, micro", (overall) => overall.own.micro.f1]];
    const rows = metrics.pairs.map((pair) => [indexOf.get(pair.a), indexOf.get(pair.b), pair])
      .filter(([a, b]) => visible[a] && visible[b]);
    byId("pairs").replaceChildren(rows.length ? table(
      ["Pair", ...heads.map(([head]) => head)],
      rows.map(([a, b, pair]) => [el("span", {}, named(a), " − ", named(b)),
        ...heads.map(([, get]) => withRange(get(pair.overall), signed))]),
      "Differences between models") : note("Switch on two models."));
  }

  function marks() {
    return ownImages ? [] : models.flatMap(({ label, maybe_seen: seen, last_post_id: last }) => {
      const name = el("bdi", {}, label);
      if (seen === null) {
        return [el("p", { className: "note" }, "? It is not known which posts ", name,
          " was trained on.")];
      }
      return seen ? [el("p", { className: "note" }, "* ", name,
        ` may have been trained on ${whole(seen)} of these posts (those up to ID ${last} and their ` +
        "families), so its figures may be too high.")] : [];
    });
  }

  section({
    id: "leaderboard", title: "Leaderboard", draw,
    build(body) {
      const [label, made] = select("Scored at",
        SETS.map(([, way, words], at) => [at, `${words}, ${way}`]), 0, draw);
      made.id = "leaderboard-set";
      choice = made;
      body.append(
        el("ul", { id: "verdicts" }, ...metrics.said.verdicts.map((said) => el("li", {}, said))),
        note("Higher is better, except for the calibration error. The small numbers are the 95% " +
          "range: how far the figure would move with as many other posts like these. A figure " +
          "whose range was not found to hold has none." + (severalModels ? " Bold are the best " +
          "figure and those that the posts cannot tell from it; nothing is bold where all are " +
          "alike or a figure has no range." : ""), " Two kinds of mean: ",
          term("macro"), ", over tags, and ", term("micro"), ", over all tags of all posts."),
        controls(label), el("p", { className: "read", id: "leaderboard-about" }),
        el("div", { id: "leaderboard-table" }), el("div", { id: "seen" }, ...marks()),
        figure("leaderboard-plot", "F1 and AP of each model, with 95% ranges"));
      byId("leaderboard-about").setAttribute("aria-live", "polite");
      if (severalModels) {
        body.append(el("details", {}, el("summary", {}, "Every pair of models"),
          note("First model minus second, with its range: one that does not hold zero is more " +
            "than noise."), el("div", { id: "pairs" })));
      }
    },
  });
}
