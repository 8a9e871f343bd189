// Two models, tag by tag.
{
  let key, horizontal, vertical;

  function draw() {
    offer(horizontal, 0);
    offer(vertical, 1);
    const enough = visibleModels().length > 1;
    byId("scatter-figure-box").hidden = !enough;
    byId("scatter-none").hidden = enough;
    byId("scatter-count").textContent = "";
    if (!enough) return;
    const figureName = FIGURES[key.value];
    const [left, right] = [horizontal, vertical].map((made) => Number(made.value));
    const [x, y] = [left, right].map((index) => models[index].per_tag[key.value]);
    const most = Math.max(...counts);
    const groups = [
      [left, (index) => x[index] > y[index]],
      [right, (index) => x[index] < y[index]],
      [null, (index) => x[index] === y[index]],
    ];
    const tags = names.map((_, index) => index);
    const traces = groups.map(([model, within]) => {
      const members = tags.filter(within);
      return {
        x: members.map((index) => x[index]), y: members.map((index) => y[index]),
        text: members.map((index) => markup(names[index])), mode: "markers",
        customdata: members.map((index) => [index, whole(counts[index])]),
        meta: [markup(models[left].label), markup(models[right].label)],
        name: model === null ? "alike" : `${markup(short(models[model].label))} is better`,
        showlegend: true,
        marker: { color: model === null ? css("--muted") : colour(model), opacity: 0.55,
          symbol: model === null ? "circle" : symbol(model),
          size: members.map((index) => 4 + 26 * Math.sqrt(counts[index] / most)),
          line: { width: 0 } },
        hovertemplate: "<b>%{text}</b><br>%{meta[0]} %{x:.4f}<br>%{meta[1]} %{y:.4f}<br>" +
          "%{customdata[1]} posts<extra></extra>",
      };
    });
    byId("scatter-count").textContent = `${models[left].label} is better at ` +
      `${whole(traces[0].x.length)} tags, ${models[right].label} at ${whole(traces[1].x.length)}`;
    const width = byId("scatter-plot").clientWidth;
    const shape = layout(`${figureName}, ${markup(short(models[left].label))}`,
      `${figureName}, ${markup(short(models[right].label))}`,
      { xaxis: unit, yaxis: unit, legend: { itemsizing: "constant" },
        height: Math.min(600, Math.max(300, width)) });
    plot("scatter-plot", `${figureName} of each tag, one model against the other; the table of ` +
      "all tags holds the numbers", [diagonal(), ...traces], shape);
    const place = byId("scatter-plot");
    place.removeAllListeners("plotly_click");
    place.on("plotly_click", ({ points: [point] }) => {
      if (point.customdata) openTag(point.customdata[0]);
    });
  }

  section({
    id: "scatter", title: "Two models, tag by tag", short: "Tag by tag", when: severalModels, draw,
    build(body) {
      const parts = [["Figure", figureOptions, "ap"], ["Horizontal", [], ""], ["Vertical", [], ""]]
        .map(([label, options, chosen]) => select(label, options, chosen, draw));
      [key, horizontal, vertical] = parts.map(([, made]) => made);
      [key.id, horizontal.id, vertical.id] = ["scatter-figure", "scatter-x", "scatter-y"];
      const box = figure("scatter-plot", "One model against another, a circle for each tag", "tall");
      box.id = "scatter-figure-box";
      body.append(
        note("Each mark is a tag, larger the more posts have it: above the diagonal the vertical " +
          "model is better at it, below the horizontal one. Point at a mark for its name, click " +
          "it for its posts."),
        controls(...parts.map(([label]) => label),
          el("span", { id: "scatter-count", "aria-live": "polite" })),
        el("p", { id: "scatter-none", className: "read" }, "Switch on a second model above to " +
          "compare two."), box);
    },
  });
}
