// What every part of the page uses: the data, numbers, elements, and the look of each model.
//
// Names from outside reach the page as text nodes only, and Plotly through markup() below.
const metrics = JSON.parse(document.getElementById("data").textContent);
const { models, tag_names: names, tag_categories: categories, tag_counts: counts } = metrics;
const FIGURES = { ap: "AP", f1: "F1", precision: "Precision", recall: "Recall", mcc: "MCC" };
const RATINGS = { g: "general", s: "sensitive", q: "questionable", e: "explicit" };
const figureOptions = Object.entries(FIGURES);
const MEANINGS = {
  AP: "Average precision: the area under the curve of precision against recall. It needs no threshold. 1 is best.",
  MCC: "Matthews correlation coefficient: how far predictions and truth agree, tags rightly left out included. 1 is best, 0 is no better than chance.",
  Coverage: "The share of all tags on these posts that the model knows at all.",
  "Calibration error": "How far a score is, on average, from the share of such scores that are right. 0 is best.",
  "Macro F1": "The mean F1 of the ratings, so that rare ones count as much as common ones.",
  macro: "The mean over tags, so that every tag counts the same.",
  micro: "All tags of all posts pooled, so that common tags count most.",
};

const byId = (id) => document.getElementById(id);
const grouped = new Intl.NumberFormat("en");
const whole = (number) => grouped.format(number);
const shown = (number) => (number === null ? "–" : number.toFixed(4));
const signed = (number) => (number === null ? "–"
  : (number < 0 ? "−" : "+") + Math.abs(number).toFixed(4));
// What an object has under a name from outside, or null.
const entry = (object, key) => (Object.hasOwn(object, key) ? object[key] : null);
const counted = (number, unitName) =>
  `${whole(number)} ${number === 1 ? unitName.replace(/s$/, "") : unitName}`;

// The numbers that packing.py packed: base64 of little-endian groups of 7 bits.
function unpacked(text) {
  const bytes = atob(text);
  const found = [];
  let number = 0;
  let scale = 1;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes.charCodeAt(at);
    number += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) {
      found.push(number);
      number = 0;
      scale = 1;
    }
  }
  return found;
}

// ---- how a model looks: by the place of its name among the report's names, whatever the order

const ranks = models.map(({ name }) => models.filter((other) => other.name < name).length);
const COLOURS = 9;
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon",
  "triangle-down"];
const DASHES = ["solid", "dash", "dot", "dashdot"];  // A dash for every three colours.
const theme = new Map();  // Each look at a computed style makes the browser lay out the page.
function css(name) {
  if (!theme.has(name)) {
    theme.set(name, getComputedStyle(document.body).getPropertyValue(name).trim());
  }
  return theme.get(name);
}
const paint = (index) => `var(--model-${ranks[index] % COLOURS})`;
const colour = (index) => css(`--model-${ranks[index] % COLOURS}`);
const dash = (index) => DASHES[Math.floor(ranks[index] / 3) % DASHES.length];
const symbol = (index) => SYMBOLS[ranks[index] % SYMBOLS.length];

// ---- which models are switched on

const visible = models.map(() => true);
const onlyVisible = (list) => list.filter((index) => visible[index]);
const visibleModels = () => onlyVisible(models.map((_, index) => index));

// ---- elements

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

const short = (text, most = 26) => {
  const letters = Array.from(text);
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
};

function swatch(index) {
  const made = el("span", { className: "swatch", "aria-hidden": "true" });
  made.style.setProperty("--paint", paint(index));
  made.classList.add(dash(index));
  return made;
}

const nameOf = (index) => el("bdi", { className: "name" }, models[index].label);
const named = (index) => el("span", { className: "named" }, swatch(index), nameOf(index));

// A word that explains itself when pointed at or reached with Tab.
function term(word) {
  if (!MEANINGS[word]) return document.createTextNode(word);
  const made = el("span", { className: "term", tabIndex: 0, "aria-describedby": "tip" }, word);
  const show = () => {
    const tip = byId("tip");
    tip.textContent = MEANINGS[word];
    tip.showPopover();
    const box = made.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    const below = box.bottom + 6;
    const fits = below + tip.offsetHeight < innerHeight;
    tip.style.top = `${fits ? below : box.top - tip.offsetHeight - 6}px`;
  };
  const hide = () => byId("tip").hidePopover();
  made.addEventListener("mouseenter", show);
  made.addEventListener("focus", show);
  made.addEventListener("mouseleave", hide);
  made.addEventListener("blur", hide);
  return made;
}

// An address is linked only where it is one of the web's; `rest` is made of checked parts.
const external = (href, ...children) =>
  el("a", { href, target: "_blank", rel: "noreferrer" }, ...children);
const site = /^https?:\/\//.test(metrics.site ?? "") ? metrics.site : null;

// Ids above this are those of one's own images, which no site has and no model was trained on.
const OWN = 1e12;
const ownImages = metrics.posts.min_id > OWN;

function select(label, options, chosen, change) {
  const made = el("select", {},
    ...options.map(([value, text]) => el("option", { value }, text)));
  made.value = chosen;
  made.addEventListener("change", change);
  return [el("label", {}, `${label} `, made), made];
}

// The models that are switched on, in a select that keeps its choice where it can.
function offer(made, preferred) {
  const old = made.value;
  const indices = visibleModels();
  made.replaceChildren(...indices.map((index) =>
    el("option", { value: index }, models[index].label)));
  made.value = indices.includes(Number(old)) && old !== "" ? old
    : indices[Math.min(preferred, indices.length - 1)];
}

// ---- sections

// Each file in sections/ adds one with section(): the heading, `read` (a sentence on how to read
// it), build(body), called once, and draw(), called at the start, when the models switched on, the
// colours or the width change. `when` false leaves it out.
const sections = [];
const section = (made) => made.when === false || sections.push(made);
const note = (...text) => el("p", { className: "read" }, ...text);
const controls = (...parts) => el("div", { className: "controls" }, ...parts);
const severalModels = models.length > 1;
