"""What a person reads as text, made from the results that metrics.json holds.

Tag names and labels come from other people's files. They stay what they are, except that each
format's own hazards are escaped: unprintable characters everywhere (`plain`), markup in Markdown,
formulas in spreadsheets, `<` in the page's data.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, zip_longest
from typing import Any

from arena.cli import plain
from arena.posts import OWN
from arena.report.limits import cut
from arena.report.over_time import model_name

Metrics = Mapping[str, Any]  # As validate.py makes them, and metrics.json holds.

# The published table's columns, with their width there.
COLUMNS = {"Precision": 9, "Recall": 7, "F1": 6, "AP": 6}
MODEL_COLUMNS = (
    *("Name", "Label", "Family", "Tags", "Threshold", "Newest training post"),
    *("Held out", "Licence", "Gated", "Here", "Predictions"),
)
RUN_COLUMNS = ("Date", "Posts", "Tags", "Set", "Model", "Fingerprint", "F1", "AP")
PER_TAG = ("precision", "recall", "f1", "ap", "mcc")
LARGE = 0.25  # Tags lost to a model that are told: so many for each tag that is common.
FEWEST = 30  # Clusters of posts for a verdict: the spread of fewer is itself guesswork.


def labels(metrics: Metrics) -> list[str]:
    """Each model's label, with its name added where two models have the same label."""
    times = Counter(plain(model["label"]) for model in metrics["models"])
    return [_label(model, times[plain(model["label"])] > 1) for model in metrics["models"]]


def _label(model: Mapping[str, Any], several: bool) -> str:
    """A model's label, with its name where several have that label."""
    label = plain(model["label"])
    return f"{label} ({plain(model['name'])})" if several else label


def markdown_table(metrics: Metrics, ci: bool = False) -> str:
    """The results as a Markdown table: means over tags at each model's own threshold.

    `ci` adds the intervals. Below it stand the models that may have seen some of the posts, which
    the table marks with `*` (`?` where it is not known), then the posts and tags it rests on.
    """
    posts, tags = metrics["posts"], metrics["tags"]
    own_images = posts["min_id"] > OWN  # No model was trained on them.
    rows, notes = [], []
    for model, label in zip(metrics["models"], map(_markdown, labels(metrics)), strict=True):
        own = model["overall"]["own"]["macro"]
        figures = [own[key] for key in ("precision", "recall", "f1")]
        figures.append(model["overall"]["ap"]["macro"])
        if model.get("mean_of"):
            notes.append(f"{label} is the mean of their scores, at the mean of their thresholds")
        seen = 0 if own_images else model["maybe_seen"]
        mark = "?" if seen is None else "*" if seen else ""
        rows.append([label + mark, *(_figure(figure, ci) for figure in figures)])
        if seen is None:
            notes.append(f"? it is not known which posts {label} was trained on")
        elif seen:
            notes.append(
                f"* {label} may have been trained on {seen} of the posts "
                f"(those up to ID {model['last_post_id']} and their families); "
                "--unseen-only leaves them out"
            )
    least = [len("Model"), *COLUMNS.values()]
    return "\n".join(
        [
            *_aligned([["Model", *COLUMNS], *rows], least),
            "",
            *([*notes, ""] if notes else []),
            f"{posts['count']} posts, min id {posts['min_id']}, max id {posts['max_id']}",
            f"{tags['count']} tags in common after filtering by usage",
        ]
    )


def model_table(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a Markdown table of what is known of each model."""
    rows = [
        [
            model["name"],
            plain(model["label"]),
            model["family"],
            "unknown" if model["tags"] is None else str(model["tags"]),
            "by category" if isinstance(model["threshold"], dict) else str(model["threshold"]),
            "unknown" if model["last_post_id"] is None else str(model["last_post_id"]),
            "{} to {}".format(*model["held_out"]) if model["held_out"] else "none",
            plain(model["license"] or "unknown"),
            "yes" if model["gated"] else "no",
            "yes" if model["on_this_machine"] else "no",
            "yes" if model["predictions"] else "no",
        ]
        for model in models
    ]
    return _aligned([[*MODEL_COLUMNS], *rows])


def history_table(runs: Sequence[Mapping[str, Any]], ci: bool = False) -> list[str]:
    """The lines of a Markdown table of the runs that there have been, each as EarlierRun in
    arena/validate/history.py, a row for each model of each; `ci` adds the intervals."""
    if not runs:
        return ["No run is recorded yet."]
    sets: dict[str, int] = {}
    names: dict[str, set[str]] = {}  # The models that have a label, of any run.
    prints: dict[str, set[str]] = {}
    for model in (model for run in runs for model in run["models"]):
        names.setdefault(plain(model["label"]), set()).add(model["name"])
        prints.setdefault(model_name(model["name"]), set()).add(model["fingerprint"])
    rows = [
        [
            *(run["date"], str(run["posts"]), str(run["tags"])),
            str(sets.setdefault(run["selection"], len(sets) + 1)),
            _markdown(_label(model, len(names[plain(model["label"])]) > 1)),
            _markdown(plain(model["fingerprint"][:8])),
            *(_figure(model[name], ci) for name in ("f1", "ap")),
        ]
        for run in runs
        for model in run["models"]
    ]
    said = ["Runs of one set had the same posts and tags: only these can be compared."]
    if any(len(found) > 1 for found in prints.values()):
        said.append("A model with another fingerprint has other weights, settings or precision.")
    return [*_aligned([[*RUN_COLUMNS], *rows]), "", *said]


def _aligned(rows: Sequence[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """The lines of a Markdown table whose columns are aligned; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = [max(pair) for pair in zip_longest(widths, least, fillvalue=0)]
    head, *body = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )
    return [head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *body]


def _markdown(text: str) -> str:
    """`text` so that Markdown shows it as it is and no table takes its pipes for columns."""
    return re.sub(r"[\\<&\[`*]", r"\\\g<0>", text).replace("|", "&#124;")


def _figure(figure: dict[str, float | None], ci: bool) -> str:
    """A share, as precision is, of one model."""
    shown = f"{figure['value']:.4f}"
    if ci and figure["low"] is not None:
        ends = cut(figure)
        shown += f" ({ends['low']:.4f} to {ends['high']:.4f})"
    return shown


def summary(metrics: Metrics, ci: bool = False) -> list[str]:
    """What a run prints: the table, the verdicts, and what the choice of tags did to figures."""
    said = [*verdicts(metrics), *lost_tags(metrics), *moved(metrics)]
    return [*markdown_table(metrics, ci).split("\n"), *(["", *said] if said else [])]


def lost_tags(metrics: Metrics) -> list[str]:
    """At most one sentence: the most tags of a category that the common ones lost, and to whom.

    None where they are fewer than LARGE of the common ones, or the user listed the tags.
    """
    if not metrics["lost_tags"] or metrics["tags"]["pinned"]:
        return []
    lost = metrics["lost_tags"][0]  # The most.
    if lost["tags"] < LARGE * metrics["tags"]["count"]:
        return []
    names = _names(metrics)
    lacking = [model for model in metrics["models"] if model["name"] in lost["models"]]
    by_category = [model["all_tags"]["by_category"][lost["category"]] for model in lacking]
    none = all(found["known"] == 0 for found in by_category)
    one = len(lacking) == 1
    what = f"{'has' if one else 'have'} none" if none else f"{'lacks' if one else 'lack'} them"
    who = " and ".join(names[model["name"]] for model in lacking)
    tags = "tag is" if lost["tags"] == 1 else "tags are"
    return [f"{lost['tags']:,} {lost['category']} {tags} out because {who} {what}."]


def moved(metrics: Metrics) -> list[str]:
    """What other common tags than the last run's did to the figures: up to two sentences."""
    found = metrics["moved"]
    if found is None:
        return []
    if not found["same_posts"]:
        return ["Tags and posts are others than in the last run: figures moved because of both."]
    before, now = found["tags"]
    both = "" if found["both"] is None else f", {found['both']:,} of them in both"
    names = _names(metrics)
    changes = {
        "came in": (names[name] for name in found["came"]),
        "went out": map(plain, found["went"]),
    }
    listed = {word: ", ".join(who) for word, who in changes.items()}
    why = [f"{who} {word}" for word, who in listed.items() if who]
    change = f"The last run was scored on other tags, {before:,} where there are {now:,} now{both}"
    said = [f"{change}: {' and '.join(why)}." if why else f"{change}."]
    if found["models"]:
        each = [
            f"{names[model['name']]}'s F1 {_step(*model['f1'])}, AP {_step(*model['ap'])}"
            for model in found["models"]
        ]
        said.append(f"That alone moved {'; '.join(each)}.")
    return said


def _step(before: float, now: float) -> str:
    return f"from {before:.4f} to {now:.4f}"


def _names(metrics: Metrics) -> dict[str, str]:
    """Each model's label by its name."""
    return dict(zip((model["name"] for model in metrics["models"]), labels(metrics), strict=True))


def verdicts(metrics: Metrics) -> list[str]:
    """Who beats whom on macro F1, by how much, and whether that is more than noise: whether the
    difference's interval leaves out zero. No such word under FEWEST clusters of posts or without a
    spread. With more than two models the intervals are those that hold for all pairs at once.

    F1 is at the models' own thresholds, which their authors chose on other posts, so a second
    sentence has what does not rest on them: macro AP, and macro F1 where precision equals recall.
    With more than three models only neighbours in the ranking are compared, best first. Then comes
    a sentence that names the models that cannot be told from the best, of more than two, and one on
    what clusters change.
    """
    names = _names(metrics)
    ranked = sorted(
        metrics["models"],
        key=lambda model: model["overall"]["own"]["macro"]["f1"]["value"],
        reverse=True,
    )
    order = [model["name"] for model in ranked]
    said = []
    for better, worse in combinations(order, 2) if len(order) <= 3 else pairwise(order):
        headline = _verdict(metrics, names, better, worse)
        said.append(f"{headline} {_whatever_the_thresholds(metrics, better, worse)}")
    drawn = metrics["bootstrap"]
    if drawn["resamples"] and drawn["clusters"] >= FEWEST:
        if len(order) > 2:
            ways = {"f1": "F1", "ap": "average precision"}
            groups = [_group(metrics["best"][key], names, word) for key, word in ways.items()]
            sentence = "; ".join(groups)
            said.append(f"{sentence[0].upper()}{sentence[1:]}.")
        said += _clustered(metrics)
    return said


def _group(best: Sequence[str], names: dict[str, str], word: str) -> str:
    """Which models cannot be told from the best, the first, by the figure that is called `word`."""
    first, *others = (names[name] for name in best)
    if not others:
        return f"by {word}, {first} is the best by more than noise"
    *some, last = others
    listed = f"{', '.join(some)} and {last}" if some else last
    return f"by {word}, {first} is the best, and {listed} cannot be told from it"


def _clustered(metrics: Metrics) -> list[str]:
    """A sentence on what drawing posts by clusters does to the intervals of F1, if it does."""
    drawn = metrics["bootstrap"]
    effects = [model["design_effect"]["f1"] for model in metrics["models"]]
    known = sorted(effect for effect in effects if effect is not None)
    if drawn["clusters"] == metrics["posts"]["count"] or not known:
        return []
    low, high = f"{known[0]:.2f}", f"{known[-1]:.2f}"
    shown = low if low == high else f"{low} to {high}"
    unit = "artist or family" if drawn["unit"] == "artist" else "family"
    return [
        f"Intervals draw {drawn['clusters']} clusters of posts of one {unit}, the largest of"
        f" {drawn['largest']}: F1's variance is {shown} times that of independent posts"
        " (design effect)."
    ]


def _difference(metrics: Metrics, a: str, b: str, figure: str) -> dict[str, Any]:
    """Model a's figure (`f1`, `equal_f1`, `ap`) minus model b's, with its simultaneous interval."""
    for pair in metrics["pairs"]:
        found = pair["simultaneous"][figure]
        if (pair["a"], pair["b"]) == (a, b):
            return dict(found)
        if (pair["a"], pair["b"]) == (b, a):
            low, high = found["low"], found["high"]
            return {
                "value": -found["value"],
                "low": None if high is None else -high,
                "high": None if low is None else -low,
            }
    raise KeyError(f"no pair {a}, {b} in the metrics")


def _verdict(metrics: Metrics, names: dict[str, str], better: str, worse: str) -> str:
    found = _difference(metrics, better, worse, "f1")
    ahead = round(found["value"], 4)
    if ahead:
        said = f"At their own thresholds, {names[better]}'s F1 is {ahead:.4f} higher than"
        said += f" {names[worse]}'s"
    else:
        said = f"At their own thresholds, {names[better]} and {names[worse]} have the same F1 to"
        said += " four decimals"
    low, high = found["low"], found["high"]
    posts, clusters = metrics["posts"]["count"], metrics["bootstrap"]["clusters"]
    if clusters < FEWEST:
        one, several = ("post", "posts") if clusters == posts else ("cluster", "clusters of posts")
        few = f"one {one} is" if clusters == 1 else f"{clusters} {several} are"
        return f"{said}; {few} too few to tell whether that is more than noise."
    if low is None:
        why = (
            "the resamples do not differ, so"
            if metrics["bootstrap"]["resamples"]
            else ("without the bootstrap")
        )
        return f"{said}; {why} nothing says whether that is more than noise."
    percent = f"{metrics['bootstrap']['confidence']:.0%}"
    interval = f"{percent} interval" + (" over all pairs" if len(names) > 2 else "")
    return f"{said} ({interval} {low:.4f} to {high:.4f}): {_noise(found)}."


def _noise(difference: Mapping[str, Any]) -> str:
    apart = difference["low"] > 0 or difference["high"] < 0
    return "more than noise" if apart else "no more than noise"


def _whatever_the_thresholds(metrics: Metrics, a: str, b: str) -> str:
    """How far a is ahead of b by figures that need no threshold of the authors'."""
    said = []
    for word, figure in (
        ("AP", "ap"),
        ("F1 where precision equals recall", "equal_f1"),
    ):
        found = _difference(metrics, a, b, figure)
        ahead = round(found["value"], 4)
        way = "higher" if ahead > 0 else "lower"
        shown = f"{word} {abs(ahead):.4f} {way}" if ahead else f"{word} the same"
        known = found["low"] is not None and metrics["bootstrap"]["clusters"] >= FEWEST
        said.append(f"{shown} ({_noise(found)})" if known else shown)
    return f"Whatever the thresholds: {', '.join(said)}."


def detailed_metrics(metrics: Metrics) -> str:
    """detailed_metrics.txt: a block per tag with a line per model."""
    shown = labels(metrics)
    lines = []
    for index, tag in enumerate(metrics["tag_names"]):
        lines.append(plain(tag))
        for model, label in zip(metrics["models"], shown, strict=True):
            precision, recall, f1, ap = (
                model["per_tag"][key][index] for key in ("precision", "recall", "f1", "ap")
            )
            lines.append(
                f"{label:<20}: Precision {precision:.4f}, Recall {recall:.4f}, "
                f"F1 {f1:.4f}, AP {ap:.4f}"
            )
        lines.append("")
    return "\n".join(lines) + "\n"


def per_tag_csv(metrics: Metrics) -> str:
    """per_tag.csv: a row for each tag and model: the tag, its category and count, the model's label
    and its figures.

    A cell that a spreadsheet would run as a formula (`=_=`, `+_+`, `@_@` are real tags) gets a
    leading apostrophe; metrics.json holds the exact names.
    """
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["tag", "category", "count", "model", *PER_TAG])
    models = [
        (_cell(label), model["per_tag"])
        for label, model in zip(labels(metrics), metrics["models"], strict=True)
    ]
    about = metrics["tag_names"], metrics["tag_categories"], metrics["tag_counts"]
    for place, (name, category, count) in enumerate(zip(*about, strict=True)):
        for label, figures in models:
            shown = (f"{figures[key][place]:.6f}" for key in PER_TAG)
            rows.writerow([_cell(plain(name)), category, count, label, *shown])
    return file.getvalue()


def thresholds_csv(metrics: Metrics) -> str:
    """thresholds.csv: thresholds fitted on all the posts, a row each, model by model: `one` for all
    tags, then each `category`, then each `tag`, most common first.

    `fitted_on` names what a threshold was fitted on, as a rare tag has its category's. `f1` is on
    the posts that it was fitted on, so optimistic; `cross_fit_f1` is what a threshold from one half
    of the posts gives on the other. Both are means over the tags of the row. `positives` counts
    (post, tag) pairs.
    A threshold has all its digits, as it is the score of a post, which it would miss if it were
    rounded up. Cells are escaped as in per_tag.csv.
    """
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    head = ["model", "kind", "name", "threshold", "fitted_on", "f1", "cross_fit_f1", "positives"]
    rows.writerow(head)

    def write(*start: str, threshold: float, on: str, f1: float, crossed: float, n: int) -> None:
        rows.writerow([*start, threshold, on, f"{f1:.6f}", f"{crossed:.6f}", n])

    for model in metrics["models"]:
        name, tuned = _cell(plain(model["name"])), model["tuned"]
        shared = [("one", "all", tuned["one"])]
        shared += [("category", category, found) for category, found in tuned["category"].items()]
        for kind, of, found in shared:
            write(
                *(name, kind, _cell(plain(of))),
                threshold=found["threshold"],
                on=kind,
                f1=found["f1"],
                crossed=found["cross_fit_f1"],
                n=found["positives"],
            )
        columns = (model["per_tag"][key] for key in ("tuned_threshold", "tuned_f1", "cross_fit_f1"))
        about = metrics["tag_names"], metrics["tag_counts"]
        for tag, count, threshold, f1, crossed in zip(*about, *columns, strict=True):
            on = "category" if count < tuned["fewest_positives"] else "tag"
            write(
                *(name, "tag", _cell(plain(tag))),
                threshold=threshold,
                on=on,
                f1=f1,
                crossed=crossed,
                n=count,
            )
    return file.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
