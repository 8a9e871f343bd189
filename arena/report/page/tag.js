// One tag: its figures, its curve, its scores and the posts that tell most about it.
const BINS = 32;
const histograms = new Map();  // Of each model, the counts of all tags; decoded once it is asked for.
let openedTag = null;

// How many scores a tag has in each bin: `positive` of posts with the tag, `negative` without.
function histogram(model, tag) {
  if (!histograms.has(model)) histograms.set(model, unpacked(models[model].score_histogram));
  const start = tag * 2 * BINS;
  return { positive: histograms.get(model).slice(start, start + BINS),
    negative: histograms.get(model).slice(start + BINS, start + 2 * BINS) };
}

function openTag(index) {
  openedTag = index;
  byId("tag-name").replaceChildren(el("bdi", {}, names[index]));
  byId("tag-about").replaceChildren(
    `${categories[index]}, on ${counted(counts[index], "posts")}`, ...(site ? [" ",
      external(`${site}/posts?tags=${encodeURIComponent(names[index].toWellFormed())}`,
        "all its posts")] : []));
  byId("tag-images").disabled = false;
  byId("tag-images").textContent = "Show thumbnails";
  enter("tag", index, () => openTag(index));
  drawTag();
}

function drawTag() {
  if (openedTag === null || !byId("tag").open) return;
  const index = openedTag;
  const columns = [...figureOptions, ["best_threshold", "Best threshold"], ["best_f1", "F1 there"]];
  byId("tag-figures").replaceChildren(table(
    ["Model", ...columns.map(([, head]) => term(head))],
    visibleModels().map((at) => [named(at),
      ...columns.map(([key]) => shown(models[at].per_tag[key][index]))]), "This tag's figures"));
  offer(byId("tag-model"), 0);
  drawTagCurve(index);
  drawTagScores(index);
  byId("tag-posts").replaceChildren(...visibleModels().map((at) => el("section", {},
    el("h3", {}, named(at)),
    ...[["false_alarms", "Highest scores without the tag"], ["misses", "Lowest scores with it"]]
      .map(([side, head]) =>
        el("div", {}, el("h4", {}, head), posts(models[at].examples[side][index]))))));
}

// Precision and recall at each edge between bins: coarse, and exact where it has a point.
function drawTagCurve(index) {
  const traces = each((model, at) => {
    const { positive, negative } = histogram(at, index);
    const [x, y, thresholds] = [[], [], []];
    let [right, all] = [0, 0];
    for (let bin = BINS - 1; bin >= 0; bin -= 1) {
      right += positive[bin];
      all += positive[bin] + negative[bin];
      if (all) {
        x.push(right / Math.max(1, counts[index]));
        y.push(right / all);
        thresholds.push(bin / BINS);
      }
    }
    const { recall, precision } = model.per_tag;
    const line = { color: colour(at), width: 2, dash: dash(at) };
    return [
      { ...ofModel(at), x, y, customdata: thresholds, line, mode: "lines",
        hovertemplate: "%{meta[0]}<br>Recall %{x:.4f}<br>Precision %{y:.4f}<br>" +
          "Threshold %{customdata:.4f}<extra></extra>" },
      { ...ofModel(at), x: [recall[index]], y: [precision[index]], line, showlegend: true,
        mode: "lines+markers", marker: { color: colour(at), size: 11, symbol: symbol(at),
          line: { color: css("--page"), width: 1.5 } },
        hovertemplate: "%{meta[0]}, own threshold<br>Recall %{x:.4f}<br>Precision %{y:.4f}" +
          "<extra></extra>" },
    ];
  });
  plot("tag-curve", "Precision against recall of this tag; the table above holds the figures",
    traces, layout("Recall", "Precision", { xaxis: unit, yaxis: unit, height: 300 }));
}

function drawTagScores(index) {
  const at = Number(byId("tag-model").value);
  const found = histogram(at, index);
  const middles = found.positive.map((_, bin) => (bin + 0.5) / BINS);
  const trace = (side, words, more) => ({ type: "bar", x: middles, y: found[side], width: 1 / BINS,
    name: words, showlegend: true, text: found[side].map((count, bin) =>
      `${counted(count, "posts")}, score ${shown(bin / BINS)} to ${shown((bin + 1) / BINS)}`),
    textposition: "none", hovertemplate: `${words}<br>%{text}<extra></extra>`, ...more });
  plot("tag-scores", "How many posts have which score for this tag", [
    trace("negative", "posts without the tag", { marker: { color: css("--muted"), opacity: 0.55 } }),
    trace("positive", "posts with it", { marker: { color: colour(at), opacity: 0.7 } }),
  ], layout(`Score by ${markup(short(models[at].label))}`, "Posts (log scale)", {
    barmode: "overlay", bargap: 0, height: 300, xaxis: { range: [0, 1], dtick: 0.2 },
    yaxis: { type: "log", rangemode: "normal", dtick: 1, range: [Math.log10(0.5),
      Math.log10(1.6 * Math.max(1, ...found.negative, ...found.positive))] },
  }));
}

function posts(list) {
  if (!list.length) return el("p", { className: "read" }, "None.");
  return el("ul", {}, ...list.map(([id, score]) => {
    const item = el("li", {}, postButton(id), " ",
      el("span", { className: "score" }, shown(score)));
    item.dataset.id = id;
    return item;
  }));
}

async function showThumbnails() {
  const button = byId("tag-images");
  button.disabled = true;
  const items = [...byId("tag-posts").querySelectorAll("li")];
  const loaded = await Promise.all(items.map(async (item) =>
    [item, await loadImage(imagesOf(item.dataset.id))]));
  if (!loaded.some(([, image]) => image)) {
    button.textContent = "No thumbnails: resized/ is not beside this page";
    return;
  }
  for (const [item, image] of loaded) {
    item.prepend(image ? veiled(image, item.dataset.id)
      : el("span", { className: "veil" }, "no image"));
  }
}

function makeTagDialog() {
  const [label, made] = select("Scores of", [], "", () => drawTagScores(openedTag));
  made.id = "tag-model";
  byId("tag-plots").append(
    el("div", { className: "pair" }, figure("tag-curve", "Precision and recall of the tag"),
      figure("tag-scores", "Scores of posts with and without the tag")),
    ...(severalModels ? [controls(label)] : []));
  if (!severalModels) byId("tag-plots").append(el("div", { hidden: true }, label));
  byId("tag-images").addEventListener("click", showThumbnails);
}
