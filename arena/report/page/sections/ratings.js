// How models rate posts: right and wrong, by the post's own rating.
{
  const NAMES = { ...RATINGS, gs: "general or sensitive" };
  const nameOfRating = (key) => entry(NAMES, key) ?? key;
  const rates = (index) => models[index].ratings !== null;

  function draw() {
    const indices = visibleModels().filter(rates);
    byId("ratings-none").hidden = indices.length > 0;
    byId("ratings-table").replaceChildren(...(indices.length ? [table(
      ["Model", "Accuracy", term("Macro F1"), "Posts", "Ratings"],
      indices.map((index) => {
        const { accuracy, macro_f1: f1, posts, names: given } = models[index].ratings;
        return [named(index), withRange(accuracy), withRange(f1), whole(posts),
          given.length === 4 ? "four" : given.map(nameOfRating).join(", ")];
      }), "Ratings")] : []));
    byId("ratings-confusion").replaceChildren(...indices.map(confusion));
  }

  // Rows are the posts' ratings; each cell is shaded by its share of its row.
  function confusion(index) {
    const { names: given, confusion: counted } = models[index].ratings;
    const label = models[index].label;
    const made = table(["Post is", ...given.map(nameOfRating)],
      counted.map((row, at) => {
        const all = row.reduce((sum, count) => sum + count, 0);
        return [nameOfRating(given[at]), ...row.map((count, to) => {
          const share = all ? count / all : 0;
          const cell = el("span", { className: "share" }, whole(count),
            el("span", { className: "range" }, `${(100 * share).toFixed(1)}%`));
          cell.style.setProperty("--share", `${Math.round(70 * share)}%`);
          cell.classList.toggle("right", at === to);
          cell.copied = String(count);
          return cell;
        })];
      }), `Ratings by ${label}`);
    return el("div", {}, el("h3", {}, named(index)), made);
  }

  section({
    id: "ratings", title: "Ratings", draw, when: models.some((_, index) => rates(index)),
    build(body) {
      body.append(
        note("A model's rating of a post is the one with its highest score. Right is what the post's " +
          "own rating says, which people gave. A model of the site's three old ratings, with general " +
          "and sensitive as one, is not to be compared with models of four."),
        el("p", { id: "ratings-none", className: "read" }, "No model that is switched on rates."),
        el("div", { id: "ratings-table" }),
        el("details", {}, el("summary", {}, "Which ratings are taken for which"),
          note("Rows are the posts' ratings, columns the model's; shares are of a row."),
          el("div", { className: "pair", id: "ratings-confusion" })));
    },
  });
}
