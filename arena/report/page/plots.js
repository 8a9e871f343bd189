// Plots that explain themselves: each has its axes' names, its legend, and a button that saves it.

const FONT = 13;
const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text, size = FONT) {
  ruler.font = `${size}px ${css("font-family")}`;
  return ruler.measureText(text).width;
}

// The height that a legend of these names takes in so many pixels.
function legendRoom(labels, width) {
  if (!labels.length) return { height: 0, entry: 0 };
  const entry = Math.min(width - 20, Math.max(...labels.map((label) => textWidth(label))) + 14);
  // Plotly breaks the lines of a legend where the axes end.
  const columns = Math.max(1, Math.floor((width - 70) / (entry + 42)));
  return { height: Math.ceil(labels.length / columns) * 21 + 8, entry };
}

// What a layout needs: the names of the axes, more for each axis, and `rest`.
function layout(x, y, { xaxis, yaxis, ...rest } = {}) {
  const axis = (text, more) => ({
    title: { text, standoff: 10 }, automargin: true, gridcolor: css("--line"), zeroline: false,
    linecolor: css("--line"), ...more,
  });
  return {
    margin: { l: 12, r: 16, t: 10, b: 12 }, hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: css("font-family"), size: FONT, color: css("--ink") },
    hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--muted"), align: "left",
      font: { color: css("--ink"), size: FONT } },
    height: 340, xaxis: axis(x, xaxis), yaxis: axis(y, yaxis), ...rest,
  };
}

// Draws a plot into its place. The legend names the traces that have `name` and showlegend.
function plot(id, label, traces, shape) {
  const place = byId(id);
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", label);
  const width = Math.max(240, place.clientWidth);
  const listed = traces.filter(({ showlegend }) => showlegend).map(({ name }) => name);
  const room = legendRoom(listed, width);
  const height = shape.height + room.height;
  const legend = { orientation: "h", x: 0, xref: "container", y: 1, yref: "container",
    yanchor: "top", entrywidth: room.entry, entrywidthmode: "pixels", itemclick: false,
    itemdoubleclick: false, tracegroupgap: 0, bgcolor: "rgba(0,0,0,0)", ...shape.legend };
  Plotly.react(place, traces.map((trace) => ({ showlegend: false, ...trace })), {
    ...shape, width, height, legend, showlegend: listed.length > 0,
    margin: { ...shape.margin, t: shape.margin.t + room.height },
  }, { displayModeBar: false });
  place.style.height = `${height}px`;
}

// The place of a plot, with its caption and a button that saves it as a picture.
function figure(id, caption, className = "") {
  const save = el("button", { type: "button", className: "quiet",
    "aria-label": `Save the plot ${caption} as a picture` }, "Save picture");
  save.addEventListener("click", () => {
    const place = byId(id);
    Plotly.downloadImage({
      data: place.data,
      layout: { ...place.layout, paper_bgcolor: css("--page"), height: place.layout.height + 34,
        margin: { ...place.layout.margin, t: place.layout.margin.t + 34 },
        legend: { ...place.layout.legend, y: 1 - 34 / (place.layout.height + 34) },
        title: { text: markup(caption), x: 0.01, xanchor: "left", y: 1, yanchor: "top",
          yref: "container", pad: { t: 8 }, font: { size: 16 } } },
    }, { format: "png", scale: 2, width: place.layout.width, height: place.layout.height + 34,
      filename: id });
  });
  return el("figure", { className },
    el("figcaption", {}, el("span", {}, caption), save), el("div", { className: "plot", id }));
}

// The traces of every model that is switched on.
const each = (draw) => visibleModels().flatMap((index) => draw(models[index], index));

// What a trace of a model has in common with all others of it.
const ofModel = (index) => ({ name: markup(short(models[index].label, 40)),
  legendgroup: `model${index}`, meta: [markup(models[index].label)] });

// Error bars of figures {value, low, high}; none where there is no interval.
const bars = (list, index) => ({
  visible: list.some((found) => found !== null && found.low !== null), symmetric: false,
  array: list.map((found) => (found?.low == null ? 0 : found.high - found.value)),
  arrayminus: list.map((found) => (found?.low == null ? 0 : found.value - found.low)),
  color: index === null ? css("--ink") : colour(index), thickness: 1.5, width: 3,
});

// ` (0.1000 to 0.2000)`, or nothing.
const rangeText = (found) =>
  (found?.low == null ? "" : ` (${shown(found.low)} to ${shown(found.high)})`);

const unit = { range: [0, 1.005], dtick: 0.2 };
const diagonal = () => ({ x: [0, 1], y: [0, 1], mode: "lines", hoverinfo: "skip",
  line: { color: css("--muted"), width: 1, dash: "dot" } });
