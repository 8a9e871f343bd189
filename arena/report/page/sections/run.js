// Where the numbers come from: what it takes to repeat them.
{
  const HUB = "https://huggingface.co/";
  const REPOSITORY = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/;

  // The name of a hub repository as a link to its page; a folder's as it is.
  function source(text) {
    if (!REPOSITORY.test(text ?? "")) return text || "–";
    return external(HUB + text, text);
  }

  const pairs = (found) => Object.entries(found).map(([key, value]) => `${key} ${value}`).join(", ");
  const threshold = (given) =>
    (typeof given === "object" && given !== null ? pairs(given) : String(given ?? "–"));

  // The settings of [image], in the words of a card.
  const settings = (image) => Object.entries(image)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key} ${Array.isArray(value) ? value.join(" ")
      : typeof value === "object" ? pairs(value) : value}`).join(", ");

  // Names and what is said of them; what is said of none is left out.
  const facts = (...list) => el("dl", {}, ...list.filter(([, value]) => value)
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  const code = (text) => el("code", {}, text);
  const hashes = (files) => (Object.keys(files).length
    ? el("span", {}, ...Object.entries(files).flatMap(([name, hash]) =>
      [el("span", { className: "file" }, el("bdi", {}, name), " ", code(hash))])) : "");

  const madeBy = ({ precision, store, fingerprint, weights, tags_file: tags, images }) => facts(
    ["Precision of its sums", precision], ["Scores kept in", store],
    ["Weights, SHA-256", hashes(weights)],
    ["Tags, SHA-256", hashes(tags)],
    ["Images", el("span", {}, ...images.map((image) =>
      el("span", { className: "file" }, settings(image))))],
    ["Fingerprint of all that decides its scores", code(fingerprint)]);

  section({
    id: "run", title: "Where it comes from", short: "Source",
    draw() {},
    build(body) {
      const { posts, tags, bootstrap: { resamples, seed } } = metrics;
      body.append(
        note("What it takes to repeat these numbers."),
        table(["Model", "Name", "Source", "Revision", "Threshold", "Newest post trained on", "Tags"],
          models.map((model, index) => [
            named(index), model.name, source(model.source), model.revision ?? "–",
            threshold(model.threshold),
            model.last_post_id === null ? "not known" : String(model.last_post_id),
            whole(model.vocabulary),
          ]), "Models"),
        el("details", {}, el("summary", {}, "This run: date, command, versions, hashes"),
          facts(["Date", metrics.created], ["Command", code(metrics.command)],
            ["Device", metrics.device], ["Versions", pairs(metrics.software)],
            ["Bootstrap", resamples ? `${resamples} resamples, seed ${seed}` : "none"],
            ["List of posts, SHA-256", code(posts.sha256)],
            ["Counts of their tags, SHA-256", code(posts.ground_truth_sha256)],
            ["List of common tags, SHA-256", code(tags.sha256)])),
        el("details", {}, el("summary", {}, "Each model: files, hashes, images"),
          ...models.flatMap((model, index) => [el("h3", {}, named(index)), madeBy(model)])));
    },
  });
}
