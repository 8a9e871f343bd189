// What the dialogs of a tag and of a post share: each leads to the other, one is open at a time, and
// Back leads to the one before. And the images of posts.

const trail = [];  // What was open before, the last one last: how to open it, and what it led to.
let opened = null;  // What was opened last: its dialog, and how to open it again.
let goingBack = false;
let from = null;  // What in the page led to the first of them.

// Shows a dialog; `again` opens it again, and what leads to it is named by it and `key`.
function enter(name, key, again) {
  const dialog = byId(name);
  if (!opened?.dialog.open) {
    trail.length = 0;
    from = `${name} ${key}`;
  } else if (!goingBack) trail.push({ again: opened.again, lead: `${name} ${key}` });
  opened?.dialog.close();
  opened = { dialog, again };
  dialog.showModal();
  dialog.scrollTop = 0;
  dialog.querySelector(".back").hidden = !trail.length;
}

function back() {
  const { again, lead } = trail.pop();
  goingBack = true;
  again();
  goingBack = false;
  opened.dialog.querySelector(`[data-lead="${lead}"]`)?.focus();
}

// A button in a dialog or table that opens one.
function leads(name, key, open, ...children) {
  const made = el("button", { type: "button", className: `open ${name}` }, ...children);
  made.dataset.lead = `${name} ${key}`;
  made.addEventListener("click", open);
  return made;
}
const tagButton = (index) => Object.assign(
  leads("tag", index, () => openTag(index), el("bdi", {}, names[index])), { title: names[index] });
const postButton = (id) => leads("post", id, () => openPost(id), `#${id}`);

function makeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".back").addEventListener("click", back);
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    // A table that was drawn anew meanwhile has another button for the same.
    dialog.addEventListener("close", () => {
      const at = document.activeElement;
      if (opened.dialog.open || (at !== document.body && !dialog.contains(at))) return;
      document.querySelector(`main [data-lead="${from}"]`)?.focus({ preventScroll: true });
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }
  makeTagDialog();
}

// ---- images: files of resized/ beside the page, and thumbnails that it holds itself

let embedded = null;
// Where a post's image may be, small ones first.
function imagesOf(id) {
  embedded ??= JSON.parse(byId("thumbnails").textContent);
  const small = entry(embedded, id);
  return [...(small ? [`data:image/webp;base64,${small}`] : []), `${metrics.resized}/${id}.webp`];
}

// The image of the first address that has one, or null.
async function loadImage(addresses) {
  for (const address of addresses) {
    const image = el("img", { alt: "" });
    const loaded = await new Promise((resolve) => {
      image.addEventListener("load", () => resolve(true));
      image.addEventListener("error", () => resolve(false));
      image.src = address;
    });
    if (loaded) return image;
  }
  return null;
}

// An image that is blurred until it is clicked.
function veiled(image, id) {
  const veil = el("button", { type: "button", className: "veil", "aria-pressed": "false",
    "aria-label": `Show post ${id} clearly; it may be explicit` }, image);
  veil.addEventListener("click", () =>
    veil.setAttribute("aria-pressed", String(veil.getAttribute("aria-pressed") !== "true")));
  return veil;
}
