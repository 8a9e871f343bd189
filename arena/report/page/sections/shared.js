// What is compared with what: the tags that the common ones lost, each two models on all tags that
// both know, each model against all tags of the posts.
{
  const MOST = 30;  // Rows of the table of lost tags.
  const labelOf = (name) => models.find((model) => model.name === name).label;
  const kinds = [...new Set([...models.map((model) => model.all_tags),
    ...metrics.pairs.map((pair) => pair.shared)]
    .flatMap((found) => Object.keys(found.by_category)))];
  let kind, key, first;
  const ofKind = (found) => (kind.value === "" || !found ? found
    : entry(found.by_category, kind.value));

  // The chosen model and another one, whichever of the two the pair has first.
  function drawPairs() {
    if (!severalModels) return;
    offer(first, 0);
    const one = Number(first.value);
    const name = FIGURES[key.value];
    const rows = visibleModels().flatMap((other) => {
      const pair = metrics.pairs.find(({ a, b }) => a !== b &&
        [a, b].includes(models[one].name) && [a, b].includes(models[other].name));
      const found = other === one ? null : ofKind(pair?.shared);
      if (!found) return [];
      const ahead = pair.a === models[one].name;
      const difference = found.difference.macro[key.value];
      return [[named(other), withRange(ahead ? difference : minus(difference), signed),
        ...(ahead ? [found.a, found.b] : [found.b, found.a])
          .map((side) => withRange(side.macro[key.value])), whole(found.tags)]];
    });
    byId("shared-pairs").replaceChildren(rows.length
      ? table(["Against", "Difference", el("bdi", {}, `${short(models[one].label)}, ${name}`),
        `The other, ${name}`, "Tags both know"], rows, "Models on the tags that both know")
      : note("There is no other model to compare it with here."));
  }

  const minus = ({ value, low, high }) =>
    ({ value: -value, low: high === null ? null : -high, high: low === null ? null : -low });

  function drawAgainstAll() {
    const keys = ["f1", "precision", "recall"];
    const ways = kind.value === "" ? ["macro", "micro"] : ["macro"];
    const rows = visibleModels().flatMap((index) => {
      const found = ofKind(models[index].all_tags);
      if (!found) return [];
      return [[named(index), `${whole(found.known)} of ${whole(found.tags)}`,
        ...ways.flatMap((way) => keys.map((each) => withRange(found[way][each])))]];
    });
    byId("shared-all").replaceChildren(rows.length ? table(["Model", "Tags it knows",
      ...ways.flatMap((way) => keys.map((each) => `${FIGURES[each]}, ${way}`))], rows,
    "Models against all tags of the posts") : note("No model that is switched on has figures here."));
  }

  function lostTable() {
    const rows = metrics.lost_tags.slice(0, MOST).map(({ models: lacking, category, tags }) =>
      [category, whole(tags), lacking.map(labelOf).join(", ")]);
    const more = metrics.lost_tags.length - rows.length;
    return el("details", {},
      el("summary", {}, "Tags that are not common, and who does not know them"),
      table(["Category", "Tags", "Not known to"], rows, "Tags that are not common"),
      ...(more > 0 ? [note(`And ${counted(more, "lines")} of fewer tags.`)] : []));
  }

  section({
    id: "shared", title: "The same tags", short: "Same tags",
    draw() {
      drawPairs();
      drawAgainstAll();
    },
    build(body) {
      const made = [
        ["Tags", [["", "all"], ...kinds.map((name) => [name, name])], ""],
        ["Model", [], ""],
        ["Figure", figureOptions.filter(([name]) => name !== "mcc"), "f1"],
      ].map(([label, options, chosen]) => select(label, options, chosen, () => {
        drawPairs();
        drawAgainstAll();
      }));
      [kind, first, key] = made.map(([, input]) => input);
      [kind.id, first.id, key.id] = ["shared-kind", "shared-model", "shared-figure"];
      const [inKind, ...ofPairs] = made.map(([label]) => label);
      body.append(
        note(severalModels ? "The other sections compare all models on the tags that every one of " +
          "them knows. Here are the two comparisons that no further model can change, each model " +
          "at its own threshold." : "The other sections score the model on the tags that it knows."),
        ...[...metrics.said.lost, ...metrics.said.moved].map((text) => el("p", {}, text)),
        ...(metrics.lost_tags.length ? [lostTable()] : []),
        controls(inKind));
      if (severalModels) {
        body.append(el("h3", {}, "Two models on every tag that both know"),
          controls(...ofPairs), el("div", { id: "shared-pairs" }));
      }
      body.append(el("h3", {}, "Each model against every tag of the posts"),
        note("A tag that a model does not know counts as missed: what somebody gets who wants all " +
          "tags. Macro figures are over the tags on at least " +
          `${counted(metrics.tags.min_count, "posts")}, micro figures over all.`),
        el("div", { id: "shared-all" }));
    },
  });
}
