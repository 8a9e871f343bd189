// Asks about pairs of a post and a tag, one at a time, and keeps the answers in the browser.
// Names from outside reach the page as text nodes and encoded addresses only.
"use strict";
(() => {
  const { id, pairs, examples } = JSON.parse(document.getElementById("data").textContent);
  const STORE = `validation-arena audit ${id}`;
  const ANSWERS = { y: "yes", n: "no", s: "unsure" };
  const WIKI = "https://danbooru.donmai.us/wiki_pages/";
  const SHOWN_EXAMPLES = 3;
  const byId = (name) => document.getElementById(name);
  const keyOf = ([post, tag]) => JSON.stringify([post, tag]);
  const imageOf = (post) => `resized/${post}.webp`;
  const letters = () => crypto.getRandomValues(new Uint8Array(8));

  function begun() {
    const judge = Array.from(letters(), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { judge, always: false, again: false, answers: {} };
  }

  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(STORE));
      if (found && typeof found.judge === "string" && found.answers) return found;
    } catch {
      byId("warning").textContent = "This browser keeps nothing: save before you leave the page.";
    }
    return begun();
  }

  function keep() {
    try {
      localStorage.setItem(STORE, JSON.stringify(kept));
    } catch {
      byId("warning").textContent = "This browser keeps nothing: save before you leave the page.";
    }
  }

  let kept = load();
  let current = null;
  let shown = false;

  const asked = () => pairs.filter((pair) => kept.again || !pair[3] || kept.answers[keyOf(pair)]);

  function draw() {
    const all = asked();
    const open = all.filter((pair) => !kept.answers[keyOf(pair)]);
    current = open[0] ?? null;
    shown = false;
    byId("progress").textContent = `${all.length - open.length} of ${all.length} judged`;
    byId("bar").max = Math.max(1, all.length);
    byId("bar").value = all.length - open.length;
    byId("always").checked = kept.always;
    byId("again").checked = kept.again;
    byId("missing").hidden = true;
    byId("examples").replaceChildren();
    byId("no-examples").hidden = true;
    blur();
    byId("image").hidden = byId("tag").hidden = !current;
    byId("question").firstChild.textContent = current
      ? "Does the image show this? " : "All are judged: press D to save.";
    byId("about").textContent = "";
    if (!current) return;
    const [post, tag, category] = current;
    byId("image").src = imageOf(post);
    byId("tag").textContent = tag;
    byId("tag").href = WIKI + encodeURIComponent(tag.replace(/\p{Surrogate}/gu, "\ufffd"));
    byId("about").textContent = category ? `A ${category} tag.` : "";
    const others = (examples[tag] ?? []).filter((other) => other !== post);
    for (const other of others.slice(0, SHOWN_EXAMPLES)) {
      const figure = document.createElement("figure");
      const image = document.createElement("img");
      image.alt = `Post ${other}, which has the tag`;
      image.src = imageOf(other);
      figure.append(image);
      byId("examples").append(figure);
    }
    byId("no-examples").hidden = others.length > 0;
    if (open[1]) new Image().src = imageOf(open[1][0]);  // So that the next one is there at once.
  }

  function blur() {
    document.body.classList.toggle("blurred", Boolean(current) && !shown && !kept.always);
  }

  function answer(judgement) {
    if (!current) return;
    const [post, tag] = current;
    kept.answers[keyOf(current)] = { post, tag, judgement, time: Date.now() };
    keep();
    draw();
  }

  function undo() {
    const keys = Object.keys(kept.answers);
    if (!keys.length) return;
    delete kept.answers[keys.at(-1)];  // Keys stay in the order in which they were added.
    keep();
    draw();
  }

  function save() {
    const lines = Object.values(kept.answers).map((given) =>
      `${JSON.stringify({ ...given, judge: kept.judge })}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
    link.download = "judgements.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function show() {
    shown = true;
    blur();
  }

  function press(key) {
    if (ANSWERS[key]) answer(ANSWERS[key]);
    else if (key === "z") undo();
    else if (key === "d") save();
  }

  document.addEventListener("keydown", (event) => {
    // A key that is held down would answer what nobody has looked at.
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && !/^(BUTTON|INPUT|SUMMARY|A)$/.test(event.target.tagName)) {
      event.preventDefault();
      show();
    } else {
      press(event.key.toLowerCase());
    }
  });
  for (const button of document.querySelectorAll("#answers button")) {
    button.addEventListener("click", () => {
      press(button.dataset.key);
      button.blur();
    });
  }
  byId("show").addEventListener("click", (event) => {
    event.target.blur();
    show();
  });
  byId("image").addEventListener("error", () => {
    if (!current) return;
    byId("missing").textContent = `${imageOf(current[0])} is not beside this page.`;
    byId("missing").hidden = false;
    byId("image").hidden = true;
  });
  for (const name of ["always", "again"]) {
    byId(name).addEventListener("change", (event) => {
      kept[name] = event.target.checked;
      event.target.blur();
      keep();
      draw();
    });
  }
  byId("another").addEventListener("click", () => {
    if (!confirm("Has the person before saved the answers? They are forgotten here.")) return;
    kept = { ...begun(), again: true };
    keep();
    draw();
  });
  window.addEventListener("storage", (event) => {
    if (event.key !== STORE) return;
    kept = load();  // Another tab has gone on.
    draw();
  });
  keep();
  draw();
})();
