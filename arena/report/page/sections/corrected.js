// Figures corrected by people's judgements, beside the raw ones.
{
  const { audit } = metrics;
  const WAYS = [["precision", "precision", "Precision"], ["pooled_recall", "recall", "Pooled recall"],
    ["f1", "f1", "F1"]];
  const indexOf = (name) => models.findIndex((model) => model.name === name);
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}%`);

  function draw() {
    const shownModels = audit.models.filter(({ name }) => visible[indexOf(name)]);
    byId("corrected-none").hidden = shownModels.length > 0;
    byId("corrected-table").replaceChildren(...(shownModels.length ? [table(
      ["Model", ...WAYS.flatMap(([, , words]) => [`${words}, corrected`, "raw"])],
      shownModels.map((found) => {
        const index = indexOf(found.name);
        const raw = models[index].overall.own.micro;
        return [named(index), ...WAYS.flatMap(([key, rawKey]) =>
          [withRange(found[key]), shown(raw[rawKey].value)])];
      }), "Corrected figures")] : []));
    const pairs = audit.pairs.filter(({ a, b }) => visible[indexOf(a)] && visible[indexOf(b)]);
    byId("corrected-pairs").replaceChildren(...(pairs.length ? [table(
      ["A", "B", ...WAYS.map(([, , words]) => `${words}, A - B`)],
      pairs.map((pair) => [named(indexOf(pair.a)), named(indexOf(pair.b)),
        ...WAYS.map(([key]) => withRange(pair[key], signed))]), "Corrected differences")] : []));
  }

  function siteTable() {
    const rows = [["all", audit.site], ...Object.entries(audit.site_by_category)];
    return table(["Category", "Missing", "Wrong"], rows.map(([name, { missing, wrong }]) =>
      [name, withRange(missing, percent), withRange(wrong, percent)]), "Missing and wrong tags");
  }

  section({
    id: "corrected", title: "Corrected figures", draw, when: Boolean(audit),
    build(body) {
      const { agreement } = audit;
      const kappa = agreement?.kappa ?? null;
      body.append(
        note("What the models would score if the posts' tags were complete and right, estimated from " +
          `${counted(audit.judged, "pairs")} of a post and a tag that people judged, all pairs counted ` +
          "together, at the models' own thresholds. Recall is over the pairs that a post has as a tag or " +
          "that a model predicts. Raw figures count every tag that nobody gave as a false alarm." +
          (agreement ? ` Two people agree on ${agreement.agreed} of ${agreement.pairs} pairs` +
            `${kappa === null ? "" : ` (Cohen's kappa ${kappa.toFixed(2)})`}.` : "")),
        el("p", { id: "corrected-none", className: "read" }, "No model that is switched on was audited."),
        el("div", { id: "corrected-table" }),
        el("div", { id: "corrected-pairs" }),
        el("details", {}, el("summary", {}, "Tags that are missing and wrong on the site"),
          note("Missing: of the true pairs, those that are no tags; a lower bound. Wrong: of the tags, " +
            "those that are not true."), siteTable()));
    },
  });
}
