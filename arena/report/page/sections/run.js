// What it takes to repeat the numbers.
{
  const HUB = "https://huggingface.co/";
  const REPOSITORY = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;

  // The name of a hub repository as a link to its page; a folder's as it is.
  function source(text) {
    if (!REPOSITORY.test(text ?? "")) return text ?? "";
    return external(HUB + text, text);
  }

  const threshold = (given) => (typeof given !== "object" || given === null ? String(given ?? "")
    : Object.entries(given).map(([key, value]) => `${key} ${value}`).join(", "));

  section({
    id: "run", title: "The run",
    draw() {},
    build(body) {
      body.append(
        note("What it takes to repeat these numbers."),
        table(["Model", "Name", "Source", "Revision", "Threshold", "Newest post trained on", "Tags",
          "Precision of its sums"],
        models.map((model, index) => [
          named(index), model.name, source(model.source), model.revision ?? "",
          threshold(model.threshold),
          model.last_post_id === null ? "not known" : String(model.last_post_id),
          whole(model.vocabulary), model.precision,
        ]), "Models"),
        el("p", { id: "run-software" }, `${metrics.device}; ` + Object.entries(metrics.software)
          .map(([name, version]) => `${name} ${version}`).join(", ") +
          (metrics.bootstrap.resamples ? `; bootstrap seed ${metrics.bootstrap.seed}` : "")));
    },
  });
}
