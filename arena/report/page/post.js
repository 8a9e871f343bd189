// One post: its image, its tags, and what each model says of it.
let openedPost = null;

// ---- records: what posts.py wrote of each post. `truth` has the numbers of the tags that the post
// has, `wrong` of each model those that it misses or gives falsely.

function recordsOf(text) {
  const numbers = unpacked(text);
  const found = new Map();
  let [at, id] = [0, 0];
  const list = () => {
    let tag = 0;
    const end = at + 1 + numbers[at];
    const tags = [];
    for (at += 1; at < end; at += 1) tags.push(tag += numbers[at]);
    return tags;
  };
  while (at < numbers.length) {
    id += numbers[at];
    at += 1;
    found.set(id, { truth: list(), wrong: models.map(list) });
  }
  return found;
}

// The posts on which the models differ most; of one model those on which it does worst.
const chosenPosts = recordsOf(metrics.by_post.records);
const known = new Map(chosenPosts);
const files = new Map();  // Records by file: what has been loaded, and what is being loaded.
const arrived = new Map();
window.reportPosts = (name, text) => arrived.set(name, text);

// The records in a file of report_posts/; null where it is not there.
function load(name) {
  if (!files.has(name)) {
    files.set(name, new Promise((resolve) => {
      const script = el("script", { src: `report_posts/${name}` });
      const done = () => {
        const text = arrived.get(name);
        arrived.delete(name);
        script.remove();
        if (text === undefined) files.delete(name);  // It may come to be there.
        resolve(text === undefined ? null : recordsOf(text));
      };
      script.addEventListener("load", done);
      script.addEventListener("error", done);
      document.head.append(script);
    }));
  }
  return files.get(name);
}

const NOT_HERE = "report_posts/ is not beside this page";
const NOT_SCORED = "not scored";

// A post's record, or why there is none.
async function recordOf(id) {
  if (known.has(id)) return known.get(id);
  const file = metrics.by_post.files.findLast(([first]) => first <= id);
  if (!file || id > metrics.posts.max_id) return NOT_SCORED;
  const records = await load(file[1]);
  if (!records) return NOT_HERE;
  if (records.has(id)) known.set(id, records.get(id));
  return known.get(id) ?? NOT_SCORED;
}

// What a model gives a post: the tags that are right, missed and false, and their F1.
function given({ truth, wrong }, index) {
  const [has, errors] = [new Set(truth), new Set(wrong[index])];
  const right = truth.filter((tag) => !errors.has(tag));
  const missed = truth.filter((tag) => errors.has(tag));
  const invented = wrong[index].filter((tag) => !has.has(tag));
  const all = 2 * right.length + wrong[index].length;
  return { right, missed, invented, f1: 2 * right.length / Math.max(1, all) };
}

// ---- the dialog

async function openPost(id) {
  openedPost = { record: known.get(id) ?? null };
  byId("post-name").textContent = `Post ${id}`;
  byId("post-about").replaceChildren(...(site && id < OWN
    ? [external(`${site}/posts/${id}`, "on the site")] : []));
  byId("post-image").replaceChildren();
  byId("post-tags").replaceChildren();
  enter("post", id, () => openPost(id));
  drawPost();
  const mine = openedPost;
  loadImage(imagesOf(id).toReversed()).then((image) => mine === openedPost &&
    byId("post-image").replaceChildren(image ? veiled(image, id)
      : note("No image: resized/ is not beside this page.")));
  mine.record ??= await recordOf(id);
  if (mine === openedPost) drawPost();
}

function drawPost() {
  const record = openedPost?.record;
  if (!record || !byId("post").open) return;
  byId("post-tags").replaceChildren(...(typeof record === "string"
    ? [note(`What the models say of this post cannot be shown: ${record}.`)]
    : [el("h3", {}, `The post's own tags: ${whole(record.truth.length)}`), tagList(record.truth),
      ...visibleModels().map((index) => modelSays(record, index))]));
}

const tagList = (tags) =>
  el("ul", { className: "tags" }, ...tags.map((tag) => el("li", {}, tagButton(tag))));

function modelSays(record, index) {
  const { right, missed, invented, f1 } = given(record, index);
  const sides = [["Missed", missed], ["False", invented], ["Right", right]];
  return el("section", {}, el("h3", {}, named(index), ` F1 ${shown(f1)}`),
    ...sides.map(([head, tags]) => el("div", { className: `side ${head.toLowerCase()}` },
      el("h4", {}, `${head}: ${whole(tags.length)}`), tagList(tags))));
}
