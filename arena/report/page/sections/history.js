// Runs over time: each model's figures in the runs that there have been.
{
  const { runs } = metrics;
  const now = runs.at(-1);
  const inRun = (run, index) => run.models.find(({ name }) => name === models[index].name);
  const times = (index) => runs.filter((run) => inRun(run, index)).length;
  const day = (run) => run.date.slice(0, 10);
  const moment = (run) => run.date.slice(0, 16).replace("T", " ");
  const weights = (found) => found.fingerprint.slice(0, 8);

  // A line joins the runs of the same posts and tags; those of others than this report's are pale.
  function draw() {
    const places = runs.map((_, at) => at);
    const selections = [...new Set(runs.map(({ selection }) => selection))];
    const drawn = visibleModels().some((index) => times(index) > 1);
    byId("history-plots").hidden = !drawn;
    byId("history-none").hidden = drawn;
    for (const [key, name] of drawn ? [["f1", "F1"], ["ap", "AP"]] : []) {
      const traces = each((model, index) => (times(index) < 2 ? [] : selections.flatMap((selection) => {
        const here = places.filter((at) => runs[at].selection === selection &&
          inRun(runs[at], index));
        const found = here.map((at) => inRun(runs[at], index));
        return here.length ? [{
          ...ofModel(index), showlegend: selection === now.selection, mode: "lines+markers",
          opacity: selection === now.selection ? 1 : 0.45, x: here,
          y: found.map((each) => each[key].value), error_y: bars(found.map((each) => each[key]), index),
          text: here.map((at, place) => `${shown(found[place][key].value)}` +
            `${rangeText(found[place][key])}<br>${markup(moment(runs[at]))} UTC<br>` +
            `${counted(runs[at].posts, "posts")}, ${counted(runs[at].tags, "tags")}<br>` +
            `fingerprint ${markup(weights(found[place]))}`),
          line: { color: colour(index), width: 2, dash: dash(index) },
          marker: { color: colour(index), size: 8, symbol: symbol(index) },
          hovertemplate: `%{meta[0]}<br>${name} %{text}<extra></extra>`,
        }] : [];
      })));
      const step = Math.max(1, Math.ceil(runs.length / Math.max(2,
        Math.floor(byId(`history-${key}`).clientWidth / 130))));
      const ticks = places.filter((at) => (runs.length - 1 - at) % step === 0);
      plot(`history-${key}`, `${name} of each model, run by run; the table below holds the numbers`,
        traces, layout("Run", `${name}, macro`, { xaxis: { tickvals: ticks,
          ticktext: ticks.map((at) => markup(day(runs[at]))), range: [-0.4, runs.length - 0.6],
          tickangle: 0 }, yaxis: { nticks: 6 }, height: 300 }));
    }
    const indices = visibleModels();
    const sets = new Map(selections.map((selection, at) => [selection, at + 1]));
    byId("history-table").replaceChildren(table(
      ["Run, UTC", "Posts", "Tags", "Set", ...indices.flatMap((index) => [named(index), "AP"])],
      runs.toReversed().map((run) => [moment(run), whole(run.posts), whole(run.tags),
        String(sets.get(run.selection)), ...indices.flatMap((index) => {
          const found = inRun(run, index);
          return found ? [withRange(found.f1), withRange(found.ap)] : ["–", "–"];
        })]), "Runs"));
  }

  section({
    id: "history", title: "Runs over time", short: "Runs", draw,
    when: models.some((_, index) => times(index) > 1),
    build(body) {
      body.append(
        note("Models that were in several runs. A line is a model's progress: where it moves, the " +
          "model's weights or settings did. Checkpoints of one name that were in one run have a " +
          "line each. Lines join the runs that can be compared: those over the same posts and " +
          "tags. Runs over others than this report's are pale."),
        el("p", { id: "history-none", className: "read" },
          "No model that is switched on was in an earlier run."),
        el("div", { className: "pair", id: "history-plots" }, figure("history-f1", "F1, run by run"),
          figure("history-ap", "AP, run by run")),
        el("details", {}, el("summary", {}, "The same numbers as a table"),
          note("The newest run first; F1, then AP. Runs of one set had the same posts and tags."),
          el("div", { id: "history-table" })));
    },
  });
}
