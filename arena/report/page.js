// Draws the report from the JSON in #data: the metrics of metrics.json, with one label per model.
// Names from outside reach the page as text nodes only, and Plotly through markup() below.
"use strict";
(() => {
  const metrics = JSON.parse(document.getElementById("data").textContent);
  const { models, tag_names: names, tag_categories: categories, tag_counts: counts } = metrics;
  const visible = models.map(() => true);
  const FIGURES = { ap: "AP", f1: "F1", precision: "Precision", recall: "Recall", mcc: "MCC" };
  const RATINGS = { g: "general", s: "sensitive", q: "questionable", e: "explicit" };
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross"];
  const SETS = [
    ["own", "macro", "its own threshold, mean over tags",
      "The headline: each model at the threshold its authors give, every tag counting the same."],
    ["own", "micro", "its own threshold, all tags pooled",
      "Each model at its own threshold; common tags count most."],
    ["equal", "macro", "precision = recall, mean over tags",
      "At the threshold where pooled precision and recall are equal, which takes the choice of threshold out of the comparison."],
    ["equal", "micro", "precision = recall, all tags pooled",
      "At the threshold where pooled precision and recall are equal."],
    ["best", "macro", "the best single threshold, mean over tags",
      "At the one threshold that gives this model its highest macro F1 on these posts: a little optimistic, so it has no range."],
    ["best", "micro", "the best single threshold, all tags pooled",
      "At the one threshold that gives this model its highest macro F1 on these posts: a little optimistic, so it has no range."],
    ["cross_fit", "macro", "a threshold per tag, from the other half of the posts",
      "Each tag at the threshold that was best on one half of the posts, scored on the other half: what tuned thresholds honestly give. No range, as none was found to hold."],
    ["per_tag_best", "macro", "a threshold per tag, from the same posts (optimistic)",
      "Each tag at the threshold that is best on the very posts it is scored on: an upper bound, not a result to expect, so it has no range."],
  ];

  const byId = (id) => document.getElementById(id);
  const theme = new Map();  // Each look at a computed style makes the browser lay out the page.
  function css(name) {
    if (!theme.has(name)) {
      theme.set(name, getComputedStyle(document.body).getPropertyValue(name).trim());
    }
    return theme.get(name);
  }
  const grouped = new Intl.NumberFormat("en");
  const whole = (number) => grouped.format(number);
  const shown = (number) => (number === null ? "–" : number.toFixed(4));
  const signed = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(4);
  const colour = (index) => css(`--model-${index % 6}`);
  const dash = (index) => (index < 6 ? "solid" : "dash");
  const symbol = (index) => SYMBOLS[index % 6];
  const each = (draw) => models.map(draw).filter((_, index) => visible[index]).flat();

  // An element with properties, data and text or element children; never markup.
  function el(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-") || key === "role") made.setAttribute(key, value);
      else made[key] = value;
    }
    made.append(...children);
    return made;
  }

  // Plotly reads a small subset of HTML in every text: this shows `text` as it is.
  const markup = (text) =>
    text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function swatch(index) {
    const made = el("span", { className: "swatch" });
    const paint = `var(--model-${index % 6})`;
    made.style.borderColor = paint;
    made.style.background = index < 6 ? paint
      : `repeating-linear-gradient(45deg, ${paint} 0 2px, transparent 2px 4px)`;
    return made;
  }

  const nameOf = (index) => el("bdi", { className: "name" }, models[index].label);

  function fill(id, options, chosen, change) {
    const select = byId(id);
    options.forEach(([value, text]) => select.append(el("option", { value }, text)));
    select.value = chosen;
    select.addEventListener("change", change);
    return select;
  }

  const modelOptions = models.map((model, index) => [index, model.label]);
  const figureOptions = Object.entries(FIGURES);

  function table(heads, rows, caption) {
    const made = el("table");
    if (caption) made.setAttribute("aria-label", caption);
    made.append(
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell))))),
    );
    return made;
  }

  function withRange({ value, low, high }) {
    const made = el("span", {}, shown(value));
    if (low !== null) {
      made.append(el("span", { className: "range" }, `${shown(low)}–${shown(high)}`));
    }
    return made;
  }

  // ---- plots

  function layout(x, y, more = {}) {
    const axis = (title, extra) => ({
      title: { text: title, standoff: 8 }, gridcolor: css("--line"), zeroline: false,
      linecolor: css("--line"), ...extra,
    });
    return {
      margin: { l: 54, r: 14, t: 10, b: 46 }, showlegend: false, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: css("font-family"), size: 13, color: css("--ink") },
      hoverlabel: { bgcolor: css("--surface"), bordercolor: css("--muted"), align: "left",
        font: { color: css("--ink"), size: 13 } },
      modebar: { color: css("--muted"), activecolor: css("--ink"), bgcolor: "rgba(0,0,0,0)" },
      xaxis: axis(x, more.xaxis), yaxis: axis(y, more.yaxis), ...more.rest,
    };
  }

  const CONFIG = { displaylogo: false, responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  function plot(id, label, traces, shape) {
    const place = byId(id);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", label);
    return Plotly.react(place, traces, shape, CONFIG);
  }

  const unit = { range: [0, 1.005], dtick: 0.2 };
  const diagonal = () => ({ x: [0, 1], y: [0, 1], mode: "lines", hoverinfo: "skip",
    line: { color: css("--muted"), width: 1, dash: "dot" } });

  function drawLeaderboard() {
    const [set, way, , about] = SETS[byId("leaderboard-set").value];
    byId("leaderboard-about").textContent = about;
    const order = models.map((_, index) => index).sort((a, b) =>
      models[b].overall[set][way].f1.value - models[a].overall[set][way].f1.value);
    const columns = [
      ...["precision", "recall", "f1", "mcc"].map((key) =>
        [FIGURES[key], (overall) => overall[set][way][key], 1]),
      ["AP", (overall) => overall.ap[way], 1],
      ["Coverage", (overall) => overall.coverage, 1],
      ["Calibration error", (overall) => overall.calibration_error, -1],
    ];
    const best = columns.map(([, get, sign]) =>
      Math.max(...models.map((model) => sign * get(model.overall).value)));
    const rows = order.map((index) => {
      const { overall } = models[index];
      const threshold = overall[set].threshold;
      const name = el("span", {}, swatch(index), nameOf(index));
      if (models[index].maybe_seen === null) name.append("?");
      if (models[index].maybe_seen) name.append("*");
      const at = !("threshold" in overall[set]) ? "per tag"
        : threshold === null ? "by category" : shown(threshold);
      return [name, at, ...columns.map(([, get, sign], column) => {
        const cell = withRange(get(overall));
        return sign * get(overall).value === best[column] && models.length > 1
          ? el("b", {}, cell) : cell;
      })];
    });
    byId("leaderboard-table").replaceChildren(
      table(["Model", "Threshold", ...columns.map(([head]) => head)], rows, "Leaderboard"));

    const rising = order.filter((index) => visible[index]).reverse();
    const traces = [["x", (overall) => overall[set][way].f1], ["x2", (overall) => overall.ap[way]]]
      .flatMap(([xaxis, get]) => rising.map((index, row) => {
        const { value, low, high } = get(models[index].overall);
        return {
          x: [value], y: [row], xaxis, mode: "markers", meta: [markup(models[index].label)],
          marker: { color: colour(index), size: 10, symbol: symbol(index) },
          error_x: { visible: low !== null, symmetric: false, array: [high - value],
            arrayminus: [value - low], color: colour(index), thickness: 2, width: 5 },
          hovertemplate: `%{meta[0]}<br>%{x:.4f}` +
            (low === null ? "" : ` (${shown(low)}–${shown(high)})`) + "<extra></extra>",
        };
      }));
    const shape = layout(`F1, ${way}`, "", {
      xaxis: { domain: [0, 0.475] },
      yaxis: { automargin: true, tickvals: rising.map((_, row) => row),
        range: [-0.6, rising.length - 0.4],
        ticktext: rising.map((index) => markup(short(models[index].label))) },
      rest: { height: 90 + 34 * Math.max(rising.length, 1) },
    });
    shape.xaxis2 = { ...shape.xaxis, domain: [0.525, 1], title: { text: `AP, ${way}`, standoff: 8 } };
    plot("leaderboard-plot", "F1 and average precision of each model with their intervals; the " +
      "table above holds the numbers", traces, shape);
  }

  const short = (text) => {
    const letters = Array.from(text);
    return letters.length > 26 ? letters.slice(0, 25).join("") + "…" : text;
  };

  function drawCurves() {
    for (const way of ["macro", "micro"]) {
      // A threshold above every score predicts nothing: no point of a precision-recall curve.
      const precision = (model) => model.curves[`${way}_precision`].map((value, at) =>
        (value || model.curves[`${way}_recall`][at] ? value : null));
      const line = (x, y, words) => each((model, index) => ({
        x: model.curves[x], y: y(model), customdata: model.curves.threshold, mode: "lines",
        line: { color: colour(index), width: 2, dash: dash(index) }, meta: [markup(model.label)],
        hovertemplate: `%{meta[0]}<br>${words}<extra></extra>`,
      }));
      const mark = (get) => each((model, index) => {
        const point = get(model.overall.own);
        if (point === null) return [];
        return [{
          x: [point[0]], y: [point[1]], mode: "markers", meta: [markup(model.label)],
          marker: { color: colour(index), size: 12, symbol: symbol(index),
            line: { color: css("--page"), width: 2 } },
          hovertemplate: "%{meta[0]}, own threshold<br>%{xaxis.title.text} %{x:.4f}<br>" +
            "%{yaxis.title.text} %{y:.4f}<extra></extra>",
        }];
      });
      plot(`pr-${way}`, `Precision against recall over all thresholds, ${way}`, [
        ...line(`${way}_recall`, precision,
          "Recall %{x:.4f}<br>Precision %{y:.4f}<br>Threshold %{customdata:.4f}"),
        ...mark((own) => [own[way].recall.value, own[way].precision.value]),
      ], layout("Recall", "Precision", { xaxis: unit, yaxis: unit }));
      plot(`f1-${way}`, `F1 against threshold, ${way}`, [
        ...line("threshold", (model) => model.curves[`${way}_f1`],
          "Threshold %{x:.4f}<br>F1 %{y:.4f}"),
        ...mark((own) => (own.threshold === null ? null : [own.threshold, own[way].f1.value])),
      ], layout("Threshold", "F1", { xaxis: unit, yaxis: { rangemode: "tozero" } }));
    }
  }

  function drawScatter() {
    if (models.length < 2) return;
    const key = byId("scatter-figure").value;
    const [left, right] = [byId("scatter-x"), byId("scatter-y")].map((at) => Number(at.value));
    const x = models[left].per_tag[key];
    const y = models[right].per_tag[key];
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
        marker: { color: model === null ? css("--muted") : colour(model), opacity: 0.55,
          size: members.map((index) => 4 + 26 * Math.sqrt(counts[index] / most)),
          line: { width: 0 } },
        hovertemplate: "<b>%{text}</b><br>%{meta[0]} %{x:.4f}<br>%{meta[1]} %{y:.4f}<br>" +
          "%{customdata[1]} posts<extra></extra>",
      };
    });
    byId("scatter-count").textContent = `${models[left].label} is better at ` +
      `${whole(traces[0].x.length)} tags, ${models[right].label} at ${whole(traces[1].x.length)}`;
    plot("scatter-plot", `${FIGURES[key]} of each tag, one model against the other; the table of ` +
      "all tags holds the numbers", [diagonal(), ...traces],
      layout(`${FIGURES[key]}, ${markup(short(models[left].label))}`,
        `${FIGURES[key]}, ${markup(short(models[right].label))}`, { xaxis: unit, yaxis: unit }));
    const place = byId("scatter-plot");
    place.removeAllListeners("plotly_click");
    place.on("plotly_click", ({ points: [point] }) => {
      if (point.customdata) openTag(point.customdata[0]);
    });
  }

  // Each grouping: where its plot is, what it is called, the groups, and a model's entry for one.
  const inAny = (key, group) => models.some((model) => group in model[key]);
  const sizeOf = (key, group, unitName) =>
    `${whole(models.find((model) => group in model[key])[key][group][unitName])} ${unitName}`;
  const GROUPINGS = [
    ["by-category", "Category of the tag",
      ["general", "character", "copyright", "artist", "meta"]
        .filter((group) => inAny("by_category", group))
        .map((group) => [group, sizeOf("by_category", group, "tags"),
          (model) => model.by_category[group]])],
    ["by-rating", "Rating of the post",
      Object.keys(RATINGS).filter((group) => inAny("by_rating", group))
        .map((group) => [RATINGS[group], sizeOf("by_rating", group, "posts"),
          (model) => model.by_rating[group]])],
    ["by-frequency", "How many posts have the tag",
      models[0].by_frequency.map(({ low, high, tags }, at) =>
        [`${whole(low)} to ${whole(high)} posts`, `${whole(tags)} tags`,
          (model) => model.by_frequency[at]])],
  ];

  function drawGroups() {
    const [way, key] = byId("groups-figure").value.split(" ");
    const title = `${FIGURES[key]}, ${way}`;
    byId("groups-tables").replaceChildren();
    for (const [id, name, groups] of GROUPINGS) {
      const value = (model, get) => get(model)?.[way][key]?.value ?? null;
      plot(id, `${title}: ${name}; the tables below hold the numbers`, each((model, index) => ({
        type: "bar", x: groups.map((_, at) => at), y: groups.map(([, , get]) => value(model, get)),
        meta: [markup(model.label)], marker: { color: colour(index),
          pattern: { shape: index < 6 ? "" : "/" } },
        text: groups.map(([group]) => group), textposition: "none",
        hovertemplate: "%{meta[0]}, %{text}<br>%{y:.4f}<extra></extra>",
      })), layout("", title, {
        xaxis: { tickvals: groups.map((_, at) => at), tickangle: 0,
          ticktext: groups.map(([group, size]) => `${group}<br>${size}`) },
        yaxis: { rangemode: "tozero" },
        rest: { bargap: 0.25 },
      }));
      byId("groups-tables").append(el("h3", {}, `${name}: ${title}`), table(
        ["Group", "Size", ...models.map((_, index) => nameOf(index))],
        groups.map(([group, size, get]) =>
          [group, size, ...models.map((model) => shown(value(model, get)))]), name));
    }
  }

  function drawCalibration() {
    const traces = each((model, index) => {
      const bins = model.calibration.filter((bin) => bin.count > 0);
      return {
        x: bins.map((bin) => bin.mean_score), y: bins.map((bin) => bin.positive_rate),
        text: bins.map((bin) => whole(bin.count)), mode: "lines+markers",
        line: { color: colour(index), width: 2, dash: dash(index) },
        marker: { color: colour(index), size: 7, symbol: symbol(index) },
        meta: [markup(model.label)],
        hovertemplate: "%{meta[0]}<br>Mean score %{x:.4f}<br>Share with the tag %{y:.4f}<br>" +
          "%{text} scores<extra></extra>",
      };
    });
    plot("calibration-plot", "Share of scores whose post has the tag against the mean score",
      [diagonal(), ...traces],
      layout("Mean score", "Share with the tag", { xaxis: unit, yaxis: unit }));
  }

  const PLOTS = [drawLeaderboard, drawCurves, drawScatter, drawGroups, drawCalibration];

  // Draws one after the other and lets the browser show and answer in between.
  function inTurn([draw, ...rest]) {
    draw();
    if (rest.length) setTimeout(() => inTurn(rest));
  }

  // ---- text and small tables

  function writeHead() {
    const { posts, tags, bootstrap } = metrics;
    byId("rests-on").textContent = `${whole(posts.count)} posts (IDs ${posts.min_id} to ` +
      `${posts.max_id}), ${whole(tags.count)} tags in common on at least ${tags.min_count} posts` +
      (bootstrap.resamples ? `; ${bootstrap.confidence * 100}% intervals from ` +
        `${bootstrap.resamples} resamples of the posts` : "");
    document.body.classList.toggle("one", models.length < 2);
    byId("verdicts").append(...metrics.verdicts.map((verdict) => el("li", {}, verdict)));
    byId("seen").append(...models.filter((model) => model.maybe_seen === null).map((model) =>
      el("p", { className: "note" }, "? It is not known which posts ",
        el("bdi", {}, model.label), " was trained on.")));
    byId("seen").append(...models.filter((model) => model.maybe_seen).map((model) =>
      el("p", { className: "note" }, "* ", el("bdi", {}, model.label),
        ` may have been trained on ${whole(model.maybe_seen)} of these posts ` +
        `(those up to ID ${model.last_post_id} and their families), so its figures may be too high.`)));
    models.forEach((_, index) => {
      const chip = el("button", { type: "button", className: "chip", "aria-pressed": "true" },
        swatch(index), nameOf(index));
      chip.addEventListener("click", () => {
        visible[index] = !visible[index];
        chip.setAttribute("aria-pressed", String(visible[index]));
        inTurn(PLOTS.filter((draw) => draw !== drawScatter));
      });
      byId("legend").append(chip);
    });
  }

  function writePairs() {
    const figures = [["F1, macro", (overall) => overall.own.macro.f1],
      ["AP, macro", (overall) => overall.ap.macro], ["F1, micro", (overall) => overall.own.micro.f1]];
    const indexOf = Object.fromEntries(models.map((model, index) => [model.name, index]));
    byId("pairs").append(table(["Pair", ...figures.map(([head]) => head)],
      metrics.pairs.map((pair) => [
        el("span", {}, swatch(indexOf[pair.a]), nameOf(indexOf[pair.a]), " − ",
          swatch(indexOf[pair.b]), nameOf(indexOf[pair.b])),
        ...figures.map(([, get]) => {
          const found = get(pair.overall);
          const cell = el("span", {}, signed(found.value));
          if (found.low !== null) {
            cell.append(el("span", { className: "range" }, `${signed(found.low)} to ` +
              signed(found.high)));
          }
          return cell;
        }),
      ]), "Differences between models"));
  }

  function writeRun() {
    byId("run-models").append(table(
      ["Model", "Name", "Source", "Revision", "Threshold", "Newest post trained on", "Tags",
        "Precision of its sums"],
      models.map((model, index) => [
        el("span", {}, swatch(index), nameOf(index)), model.name, model.source, model.revision ?? "",
        typeof model.threshold !== "object" ? String(model.threshold)
          : Object.entries(model.threshold).map(([key, value]) => `${key} ${value}`).join(", "),
        model.last_post_id === null ? "not known" : String(model.last_post_id), whole(model.vocabulary),
        model.precision,
      ]), "Models"));
    byId("run-software").textContent = `${metrics.device}; ` + Object.entries(metrics.software)
      .map(([name, version]) => `${name} ${version}`).join(", ") +
      (metrics.bootstrap.resamples ? `; bootstrap seed ${metrics.bootstrap.seed}` : "");
  }

  // ---- the table of all tags

  let tags = null;
  let widest = 1;

  function tagRows() {
    const key = byId("tags-figure").value;
    const [a, b] = differing();
    const rows = names.map((name, index) => {
      const row = { index, name, category: categories[index], count: counts[index] };
      models.forEach((model, at) => { row[`model${at}`] = model.per_tag[key][index]; });
      row.difference = row[`model${a}`] - row[`model${b}`];
      return row;
    });
    widest = Math.max(...rows.map((row) => Math.abs(row.difference))) || 1;
    return rows;
  }

  const differing = () => [byId("tags-a"), byId("tags-b")].map((at) => Number(at.value));

  function differenceCell(cell) {
    const value = cell.getValue();
    const [a, b] = differing();
    const bar = el("i", { "aria-hidden": "true" });
    const long = 50 * Math.abs(value) / widest;
    bar.style.setProperty("--bar", `var(--model-${(value > 0 ? a : b) % 6})`);
    bar.style.setProperty("--from", `${value > 0 ? 50 : 50 - long}%`);
    bar.style.setProperty("--long", `${long}%`);
    return el("span", { className: "difference" }, el("span", {}, signed(value)), bar);
  }

  function tagCell(cell) {
    const { index, name } = cell.getData();
    const open = el("button", { type: "button", className: "open", title: name },
      el("bdi", {}, name));
    open.addEventListener("click", () => openTag(index));
    return open;
  }

  function makeTable() {
    const head = (text, underline = "transparent") => () => {
      const made = el("button", { type: "button", className: "head" }, el("bdi", {}, text));
      made.style.borderColor = underline;
      return made;
    };
    const number = { hozAlign: "right", headerHozAlign: "right", sorter: "number",
      headerSortStartingDir: "desc" };
    const columns = [
      { field: "name", titleFormatter: head("Tag"), formatter: tagCell, minWidth: 180,
        sorter: "string" },
      { field: "category", titleFormatter: head("Category"), minWidth: 108 },
      { field: "count", titleFormatter: head("Posts"), ...number, minWidth: 80,
        formatter: (cell) => whole(cell.getValue()) },
      ...models.map((model, index) => ({
        field: `model${index}`, ...number, minWidth: 118,
        titleFormatter: head(model.label, `var(--model-${index % 6})`),
        formatter: (cell) => shown(cell.getValue()),
      })),
    ];
    if (models.length > 1) {
      columns.push({ field: "difference", titleFormatter: head("Difference"), ...number,
        minWidth: 160, formatter: differenceCell });
    }
    tags = new Tabulator("#tags-table", {
      data: tagRows(), columns, layout: "fitColumns", index: "index", pagination: true,
      paginationSize: 25, paginationSizeSelector: [25, 50, 100, 250],
      paginationButtonCount: 5, placeholder: "No tag matches.",
      initialSort: [{ column: "count", dir: "desc" }], columnDefaults: { resizable: false },
    });
    tags.on("dataFiltered", (_, rows) => {
      byId("tags-count").textContent = `${whole(rows.length)} of ${whole(names.length)} tags`;
    });
  }

  function filterTags() {
    const fold = (text) => text.toLowerCase().replace(/\s+/g, "_");
    const wanted = fold(byId("tags-search").value.trim());
    const category = byId("tags-category").value;
    tags.setFilter((row) =>
      (category === "" || row.category === category) && fold(row.name).includes(wanted));
  }

  // Arrow keys walk the tags of a page; Tab and Enter work as on any button.
  function walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.classList.contains("open")) return;
    const buttons = [...byId("tags-table").querySelectorAll(".open")];
    const next = buttons[buttons.indexOf(event.target) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }

  // ---- one tag

  function openTag(index) {
    byId("tag-name").replaceChildren(el("bdi", {}, names[index]));
    byId("tag-about").textContent = `${categories[index]}, on ${whole(counts[index])} posts`;
    const columns = [...figureOptions, ["best_threshold", "Best threshold"], ["best_f1", "F1 there"]];
    byId("tag-figures").replaceChildren(table(
      ["Model", ...columns.map(([, head]) => head)],
      models.map((model, at) => [el("span", {}, swatch(at), nameOf(at)),
        ...columns.map(([key]) => shown(model.per_tag[key][index]))]), "This tag's figures"));
    byId("tag-posts").replaceChildren(...models.map((model, at) => el("section", {},
      el("h3", {}, swatch(at), " ", nameOf(at)),
      ...[["false_alarms", "Highest scores without the tag"], ["misses", "Lowest scores with it"]]
        .map(([side, head]) =>
          el("div", {}, el("h4", {}, head), posts(model.examples[side][index]))))));
    byId("tag-thumbnails").disabled = false;
    byId("tag").showModal();
    byId("tag").scrollTop = 0;
  }

  function posts(list) {
    if (!list.length) return el("p", { className: "read" }, "None.");
    return el("ul", {}, ...list.map(([id, score]) => {
      const link = el("a", { href: `https://danbooru.donmai.us/posts/${id}`, target: "_blank",
        rel: "noreferrer" }, `#${id}`);
      link.dataset.id = id;
      return el("li", {}, link, " ", el("span", {}, shown(score)));
    }));
  }

  function showThumbnails() {
    byId("tag-thumbnails").disabled = true;
    for (const link of byId("tag-posts").querySelectorAll("a")) {
      link.prepend(el("img", { src: `resized/${link.dataset.id}.webp`, alt: "No local image" }));
    }
  }

  // ---- start

  const redraw = (draw) => () => draw();
  const retag = () => tags.replaceData(tagRows());
  fill("leaderboard-set", SETS.map(([, , text], at) => [at, text]), 0, redraw(drawLeaderboard));
  fill("scatter-figure", figureOptions, "ap", redraw(drawScatter));
  fill("scatter-x", modelOptions, 0, redraw(drawScatter));
  fill("scatter-y", modelOptions, Math.min(1, models.length - 1), redraw(drawScatter));
  fill("groups-figure", [["macro", "mean over tags"], ["micro", "all tags pooled"]].flatMap(
    ([way, words]) => figureOptions.filter(([key]) => way === "macro" || key !== "ap")
      .map(([key, name]) => [`${way} ${key}`, `${name}, ${words}`])), "macro f1", redraw(drawGroups));
  fill("tags-category", [["", "all"], ...[...new Set(categories)].map((name) => [name, name])], "",
    () => filterTags());
  fill("tags-figure", figureOptions, "f1", retag);
  fill("tags-a", modelOptions, 0, retag);
  fill("tags-b", modelOptions, Math.min(1, models.length - 1), retag);
  writeHead();
  writePairs();
  writeRun();
  inTurn([drawLeaderboard, makeTable, ...PLOTS.slice(1)]);
  byId("tags-search").addEventListener("input", filterTags);
  byId("tags-table").addEventListener("keydown", walk);
  byId("tag-close").addEventListener("click", () => byId("tag").close());
  byId("tag-thumbnails").addEventListener("click", showThumbnails);
  byId("tag").addEventListener("click", (event) => {
    if (event.target === byId("tag")) byId("tag").close();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme.clear();
    inTurn(PLOTS);
  });
})();
