// Whether a score means what it says.
section({
  id: "calibration", title: "Calibration",
  build(body) {
    body.append(
      note("On the diagonal a score means what it says: of the tags scored 0.7, seven in ten are " +
        "there. Below it the model is too sure of itself, above it too timid."),
      figure("calibration-plot", "Share of scores whose post has the tag, by score", "medium"));
  },
  draw() {
    const traces = each((model, index) => {
      const bins = model.calibration.filter((bin) => bin.count > 0);
      return {
        ...ofModel(index), showlegend: true,
        x: bins.map((bin) => bin.mean_score), y: bins.map((bin) => bin.positive_rate),
        text: bins.map((bin) => whole(bin.count)), mode: "lines+markers",
        line: { color: colour(index), width: 2, dash: dash(index) },
        marker: { color: colour(index), size: 7, symbol: symbol(index) },
        hovertemplate: "%{meta[0]}<br>Mean score %{x:.4f}<br>Share with the tag %{y:.4f}<br>" +
          "%{text} scores<extra></extra>",
      };
    });
    plot("calibration-plot", "Share of scores whose post has the tag against the mean score",
      [diagonal(), ...traces],
      layout("Mean score", "Share with the tag", { xaxis: unit, yaxis: unit, height: 400 }));
  },
});
