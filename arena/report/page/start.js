// The head of the page, the switches of the models, and the drawing of all sections.

// Draws one section after the other and lets the browser show and answer in between. A later call
// takes over from one that is not done.
let turn = 0;
function drawAll() {
  const mine = ++turn;
  document.querySelector("main").setAttribute("aria-busy", "true");
  const next = ([first, ...rest]) => {
    if (mine !== turn) return;
    first();
    if (rest.length) setTimeout(() => next(rest));
    else document.querySelector("main").setAttribute("aria-busy", "false");
  };
  next([...sections.map(({ draw }) => draw), drawTag, drawPost]);
}

function writeHead() {
  const { posts: held, tags, bootstrap } = metrics;
  byId("rests-on").textContent = `${whole(held.count)} ` +
    `${ownImages ? "images of one's own" : `posts (IDs ${held.min_id} to ${held.max_id})`}, ${whole(tags.count)} tags in common on at least ` +
    counted(tags.min_count, "posts") + (bootstrap.resamples
    ? `; ${bootstrap.confidence * 100}% intervals from ${bootstrap.resamples} resamples of the posts`
    : "");
  document.querySelector("nav").append(...sections.map(({ id, title, short: name }) =>
    el("a", { href: `#${id}` }, name ?? title)));
}

// At least one model stays on, so that nothing is ever empty.
function writeSwitches() {
  const chips = models.map((_, index) => {
    const chip = el("button", { type: "button", className: "chip", role: "switch",
      "aria-checked": "true", title: models[index].label },
    el("span", { className: "track", "aria-hidden": "true" }), swatch(index), nameOf(index));
    chip.addEventListener("click", () => {
      if (visible[index] && visibleModels().length === 1) return;
      visible[index] = !visible[index];
      const last = visibleModels().length === 1;
      chips.forEach((each, at) => {
        each.setAttribute("aria-checked", String(visible[at]));
        each.setAttribute("aria-disabled", String(last && visible[at]));
        each.title = last && visible[at] ? "One model stays on" : models[at].label;
      });
      drawAll();
    });
    return chip;
  });
  byId("switches").append(...chips);
  showsMore(byId("legend"), byId("switches"));
}

function writeSections() {
  for (const { id, title, build } of sections) {
    const body = el("section", { id, "aria-labelledby": `${id}-title`, tabIndex: -1 },
      el("h2", { id: `${id}-title` }, title));
    document.querySelector("main").append(body);
    build(body);
  }
}

writeHead();
writeSwitches();
writeSections();
makeDialogs();
drawAll();
new ResizeObserver(() => document.documentElement.style.setProperty("--switches",
  `${byId("legend").offsetHeight}px`)).observe(byId("legend"));
let drawnWidth = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === drawnWidth) return;  // A phone's address bar that comes or goes.
  drawnWidth = innerWidth;
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  theme.clear();
  drawAll();
});
