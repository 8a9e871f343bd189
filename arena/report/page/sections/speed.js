// Speed, memory and size beside the score.
{
  const bytes = (number) => (number === null ? "–"
    : number >= 1e9 ? `${(number / 1e9).toFixed(1)} GB`
      : number >= 1e6 ? `${whole(Math.round(number / 1e6))} MB`
        : `${whole(Math.ceil(number / 1e3))} kB`);
  const millions = (number) => (number === null ? "–"
    : number < 1e6 ? whole(number)
      : `${number >= 1e8 ? whole(Math.round(number / 1e6)) : (number / 1e6).toFixed(1)} M`);
  const few = (number) => (number === null ? "–" : number.toFixed(number < 10 ? 2 : 1));
  const fastest = (model) => model.speed[0]?.images_per_second ?? null;  // Of the most posts.
  let figureChoice;

  function drawTable() {
    const rows = visibleModels().filter((index) => !models[index].mean_of.length)
      .flatMap((index) => {
        const model = models[index];
        const runs = model.speed.length ? model.speed : [null];
        return runs.map((run) => [named(index), few(run?.images_per_second ?? null),
          few(run?.seconds ?? null), run ? whole(run.posts) : "–",
          run?.device ?? "–", model.precision, run ? whole(run.batch) : "–",
          bytes(run?.gpu_memory ?? null), bytes(run?.host_memory ?? null),
          millions(model.parameters), bytes(model.file_size)]);
      });
    byId("speed-table").replaceChildren(rows.length ? table(["Model", "Images a second", "Seconds",
      "Posts", "Device", "Precision", "Batch", "GPU memory", "Memory", "Parameters",
      "File size"], rows, "Speed and memory")
      : note("A mean of models has no speed of its own."));
  }

  function drawPlot() {
    const [key, name] = [figureChoice.value, FIGURES[figureChoice.value]];
    const timed = visibleModels().filter((index) => fastest(models[index]));
    const devices = new Set(timed.map((index) => models[index].speed[0].device));
    // Speeds of one device are named by the axis, those of several by the legend.
    const where = devices.size === 1 ? `<br>on ${markup(short([...devices][0], 30))}` : "";
    const traces = timed.map((index) => {
      const { label, overall, speed: [run] } = models[index];
      const score = key === "ap" ? overall.ap.macro : overall.own.macro[key];
      return {
        ...ofModel(index), ...(where ? {} : { name:
          markup(`${short(label, 22)}, on ${short(run.device, 22)}`) }),
        showlegend: true, mode: "markers", x: [run.images_per_second],
        y: [score.value], text: [`${few(run.images_per_second)} images a second on ` +
          markup(run.device)],
        marker: { color: colour(index), size: 11, symbol: symbol(index) },
        error_y: bars([score], index),
        hovertemplate: `%{meta[0]}<br>${name} %{y:.4f}${rangeText(score)}<br>%{text}<extra></extra>`,
      };
    });
    byId("speed-none").hidden = traces.length > 0;
    byId("speed-figure-box").hidden = !traces.length;
    if (!traces.length) return;
    plot("speed-plot", `${name} against images a second; the table holds the numbers`, traces,
      layout(`Images a second${where}`, `${name}, macro`,
        { xaxis: { rangemode: "tozero", nticks: 6 }, height: 360 }));
  }

  const { run } = metrics;
  section({
    id: "speed", title: "Speed and memory", short: "Speed",
    when: models.some((model) => !model.mean_of.length),
    draw() {
      drawTable();
      drawPlot();
    },
    build(body) {
      const [label, made] = select("Figure", [["f1", "F1"], ["ap", "AP"]], "f1", drawPlot);
      made.id = "speed-figure";
      figureChoice = made;
      const box = figure("speed-plot", "Score against speed", "medium");
      box.id = "speed-figure-box";
      body.append(
        note("Right and up is better. Speed is that of the network alone, in the run that made its " +
          "scores, whenever that was: compare models of the same device. Memory is that of all " +
          "models that ran with it."),
        controls(label), box,
        el("p", { id: "speed-none", className: "read" },
          "How fast these models were is not known: their predictions do not say."),
        el("div", { id: "speed-table" }),
        note(run.posts ? `This run took ${whole(Math.round(run.seconds))} s for ` +
          `${counted(run.posts, "posts")}, ${few(run.images_per_second)} a second with all models ` +
          "and decoding." : "This run found all scores made and ran no network."));
    },
  });
}
