// Figures by the age of the posts, where training on older ones shows as a step.
{
  const lists = models.map((model) => model.by_age);
  const most = lists.reduce((found, list) => (list.length > found.length ? list : found), []);
  const dated = most.length > 0 && most.every(({ first_day: from, last_day: to }) => from && to);
  let key, axis;

  // The place of a slice on the axis: its middle.
  const middle = (slice) => (axis.value === "day"
    ? (Date.parse(slice.first_day) + Date.parse(slice.last_day) + 864e5) / 2
    : (slice.first + slice.last) / 2);

  // The place of an id: among days, where it lies between the ends of its slice.
  function place(id) {
    if (axis.value === "id") return id;
    const slice = most.find(({ first, last }) => id >= first && id <= last) ??
      most.find(({ first }) => first > id);
    const share = Math.max(0, (id - slice.first) / Math.max(1, slice.last - slice.first));
    const from = Date.parse(slice.first_day);
    return from + share * (Date.parse(slice.last_day) + 864e5 - from);
  }

  const within = (index) => {
    const last = models[index].last_post_id;
    return last !== null && last >= most[0].first && last < most.at(-1).last;
  };

  function draw() {
    const name = FIGURES[key.value];
    const traces = each((model, index) => {
      const found = model.by_age.map((slice) => slice.micro[key.value]);
      return {
        ...ofModel(index), showlegend: true, mode: "lines+markers", x: model.by_age.map(middle),
        y: found.map(({ value }) => value),
        text: model.by_age.map((slice, at) => `${shown(found[at].value)}${rangeText(found[at])}<br>` +
          `posts ${slice.first} to ${slice.last}` +
          (dated ? `, ${markup(slice.first_day)} to ${markup(slice.last_day)}` : "") +
          (slice.maybe_seen ? `<br>${whole(slice.maybe_seen)} of ${whole(slice.posts)} may have ` +
            "been trained on" : "")),
        line: { color: colour(index), width: 2, dash: dash(index) },
        marker: { color: colour(index), size: 7, symbol: symbol(index) },
        error_y: bars(found, index), hovertemplate: `%{meta[0]}<br>${name} %{text}<extra></extra>`,
      };
    });
    const cut = visibleModels().filter(within);
    plot("age-plot", `${name}, micro, of ten slices of the posts by ID; the table holds the numbers`,
      traces, layout(axis.value === "day" ? "Day of the post" : "Post ID", `${name}, micro`, {
        xaxis: { type: axis.value === "day" ? "date" : "linear", nticks: 5, tickformat:
          axis.value === "day" ? "" : "d" },
        yaxis: { nticks: 7 },
        shapes: cut.map((index) => ({ type: "line", xref: "x", yref: "paper", y0: 0, y1: 1,
          x0: place(models[index].last_post_id), x1: place(models[index].last_post_id),
          line: { color: colour(index), width: 1.5, dash: "dot" } })),
        height: 360,
      }));
    byId("age-cutoffs").replaceChildren(...cut.map((index) => el("p", { className: "note" },
      "The dotted line is the newest post that ", named(index), " may have been trained on, " +
      `${models[index].last_post_id}.`)));
    const indices = visibleModels();
    byId("age-table").replaceChildren(table(["Posts", "Count",
      ...indices.flatMap((index) => [named(index), "macro"])],
    most.map((slice, at) => [`${slice.first} to ${slice.last}`, whole(slice.posts),
      ...indices.flatMap((index) => {
        const { micro, macro } = models[index].by_age[at];
        return [withRange(micro[key.value]), shown(macro[key.value].value)];
      })]), `${name} by age`));
  }

  section({
    id: "age", title: "By age of the posts", short: "Age", draw, when: most.length > 1 && !ownImages,
    build(body) {
      const [[ofFigure, figureMade], [ofAxis, axisMade]] = [
        select("Figure", figureOptions, "f1", draw),
        select("Along", [["id", "post IDs"], ...(dated ? [["day", "days"]] : [])], "id", draw),
      ];
      [key, axis] = [figureMade, axisMade];
      [key.id, axis.id] = ["age-figure", "age-axis"];
      body.append(
        note("Ten slices of the posts, of equally many each, each model at its own threshold. A " +
          "model that was trained on the older posts is better on those: a step that the other " +
          "models do not have. What all models do together lies in the posts, as old ones are " +
          "tagged more fully."),
        controls(ofFigure, ...(dated ? [ofAxis] : [])),
        figure("age-plot", "Micro figures by age of the posts"),
        el("div", { id: "age-cutoffs" }),
        el("details", {}, el("summary", {}, "The same numbers as a table"),
          note("Micro with its range, then macro over the tags of the slice, which compares " +
            "models on one slice, not slices with each other."),
          el("div", { id: "age-table" })));
    },
  });
}
