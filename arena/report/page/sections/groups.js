// Figures by category, rating and frequency. A grouping is its plot's id, its name, and its groups:
// [name, how many tags or posts, their unit, a model's entry for it].
{
  const THIN = { tags: 10, posts: 100 };  // Bars of fewer are pale: a few tags decide them.
  const inAny = (key, group) => models.some((model) => group in model[key]);
  const size = (key, group, unitName) =>
    models.find((model) => group in model[key])[key][group][unitName];
  const GROUPINGS = [
    ["by-category", "Category of the tag",
      ["general", "character", "copyright", "artist", "meta"]
        .filter((group) => inAny("by_category", group))
        .map((group) => [group, size("by_category", group, "tags"), "tags",
          (model) => model.by_category[group]])],
    ["by-rating", "Rating of the post",
      Object.keys(RATINGS).filter((group) => inAny("by_rating", group))
        .map((group) => [RATINGS[group], size("by_rating", group, "posts"), "posts",
          (model) => model.by_rating[group]])],
    ["by-frequency", "Posts that have the tag",
      models[0].by_frequency.map(({ low, high, tags }, at) =>
        [`${whole(low)} to ${whole(high)}`, tags, "tags", (model) => model.by_frequency[at]])],
  ].filter(([, , groups]) => groups.length);
  let choice;

  function draw() {
    const [way, key] = choice.value.split(" ");
    const title = `${FIGURES[key]}, ${way}`;
    const indices = visibleModels();
    byId("groups-tables").replaceChildren();
    for (const [id, name, groups] of GROUPINGS) {
      const found = (model, get) => get(model)?.[way][key] ?? null;
      const rows = groups.map((_, at) => groups.length - 1 - at);  // The first group on top.
      const traces = indices.map((index) => {
        const list = groups.map(([, , , get]) => found(models[index], get));
        const thin = groups.map(([, count, unitName]) => count < THIN[unitName]);
        return {
          ...ofModel(index), type: "bar", orientation: "h", showlegend: true,
          x: list.map((each) => each?.value ?? null), y: rows,
          marker: { color: colour(index), opacity: thin.map((few) => (few ? 0.35 : 0.9)),
            pattern: { shape: ["", "/", "x", "."][Math.floor(ranks[index] / 3) % 4],
              fillmode: "overlay", fgcolor: css("--page"), size: 6 } },
          error_x: bars(list, null), textposition: "none",
          text: groups.map(([group], at) => `${group}: ${shown(list[at]?.value ?? null)}` +
            rangeText(list[at])),
          hovertemplate: "%{meta[0]}<br>%{text}<extra></extra>",
        };
      }).toReversed();
      plot(id, `${title}, by ${name.toLowerCase()}; the tables below hold the numbers`, traces,
        layout(title, "", {
          yaxis: { tickvals: rows, range: [-0.55, groups.length - 0.45],
            ticktext: groups.map(([group, count, unitName]) =>
              `${group}<br>${counted(count, unitName)}`) },
          xaxis: { rangemode: "tozero", nticks: 6 }, bargap: 0.24, legend: { traceorder: "reversed" },
          height: 70 + groups.length * Math.max(40, 12 + 13 * indices.length),
        }));
      byId("groups-tables").append(el("h3", {}, `${name}: ${title}`), table(
        ["Group", "Size", ...indices.map(named)],
        groups.map(([group, count, unitName, get]) => [group, counted(count, unitName),
          ...indices.map((index) => {
            const figureFound = found(models[index], get);
            return figureFound ? withRange(figureFound) : "–";
          })]), `${name}: ${title}`));
    }
  }

  section({
    id: "groups", title: "By kind of tag and post", short: "Groups", draw,
    build(body) {
      const options = ["macro", "micro"].flatMap((way) => figureOptions
        .filter(([key]) => way === "macro" || key !== "ap")
        .map(([key, name]) => [`${way} ${key}`, `${name}, ${way}`]));
      const [label, made] = select("Figure", options, "macro f1", draw);
      made.id = "groups-figure";
      choice = made;
      body.append(
        note("Compare the bars within a group: a model that leads overall may lag in one category, " +
          "one rating, or on rare tags. Thin lines are 95% ranges, where a figure has one: not macro " +
          "figures by rating, which with other posts would be over other tags, nor macro precision. " +
          `Pale bars rest on few: under ${THIN.tags} tags or ${THIN.posts} posts.`),
        controls(label),
        el("div", { className: "pair" }, ...GROUPINGS.map(([id, name]) => figure(id, name))),
        el("details", {}, el("summary", {}, "The same numbers as tables"),
          el("div", { id: "groups-tables" })));
    },
  });
}
