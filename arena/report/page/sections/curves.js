// Precision, recall and F1 over all thresholds.
{
  const WAYS = ["macro", "micro"];

  function draw() {
    for (const way of WAYS) {
      // A threshold above every score predicts nothing: no point of a precision-recall curve.
      const precision = (model) => model.curves[`${way}_precision`].map((value, at) =>
        (value || model.curves[`${way}_recall`][at] ? value : null));
      const traces = (x, y, point, words) => each((model, index) => {
        const common = { ...ofModel(index),
          line: { color: colour(index), width: 2, dash: dash(index) } };
        const mark = point(model.overall.own);
        const marker = { color: colour(index), size: 11, symbol: symbol(index),
          line: { color: css("--page"), width: 1.5 } };
        return [
          { ...common, x: model.curves[x], y: y(model), customdata: model.curves.threshold,
            mode: "lines", hovertemplate: `%{meta[0]}<br>${words}<extra></extra>` },
          // Stands for both in the legend; without a mark it has no point.
          { ...common, marker, x: [mark?.[0] ?? null], y: [mark?.[1] ?? null], showlegend: true,
            mode: mark ? "lines+markers" : "lines",
            hovertemplate: "%{meta[0]}, own threshold<br>%{xaxis.title.text} %{x:.4f}<br>" +
              "%{yaxis.title.text} %{y:.4f}<extra></extra>" },
        ];
      });
      plot(`pr-${way}`, `Precision against recall over all thresholds, ${way}`,
        traces(`${way}_recall`, precision,
          (own) => [own[way].recall.value, own[way].precision.value],
          "Recall %{x:.4f}<br>Precision %{y:.4f}<br>Threshold %{customdata:.4f}"),
        layout(`Recall, ${way}`, `Precision, ${way}`, { xaxis: unit, yaxis: unit }));
      plot(`f1-${way}`, `F1 against threshold, ${way}`,
        traces("threshold", (model) => model.curves[`${way}_f1`],
          (own) => (own.threshold === null ? null : [own.threshold, own[way].f1.value]),
          "Threshold %{x:.4f}<br>F1 %{y:.4f}"),
        layout("Threshold", `F1, ${way}`, { xaxis: unit, yaxis: { rangemode: "tozero" } }));
    }
  }

  section({
    id: "curves", title: "Curves over all thresholds", short: "Curves", draw,
    build(body) {
      body.append(
        note("Nearer to the top right corner is better, whatever threshold you choose; the marked " +
          "point of each line is the model's own threshold. At very high thresholds the macro " +
          "line falls, as a tag that is never predicted has a precision of 0."),
        el("div", { className: "pair" }, ...WAYS.map((way) =>
          figure(`pr-${way}`, `Precision and recall, ${way}`))),
        note("A wide, flat top means the threshold matters little; a marked point left or right of " +
          "the top means another threshold would score higher on these posts. A model with a " +
          "threshold for each category has no mark here."),
        el("div", { className: "pair" }, ...WAYS.map((way) =>
          figure(`f1-${way}`, `F1 against threshold, ${way}`))));
    },
  });
}
