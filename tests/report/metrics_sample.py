"""A metrics dict of the shape arena/metrics.py makes, with invented but plausible numbers."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

HOSTILE = [
    "</3",
    ">_<",
    "<b>",
    "&lt;",
    "\\m/",
    ";)",
    "=_=",
    "+_+",
    "@_@",
    "-_-",
    "<img_src=x_onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "<!--",
    "%{x}",
    "<extra>boo</extra>",
    "<a_href='javascript:window.hacked=1'>link</a>",
    "quote\"and'quote",
    "pipe|pipe",
    "two\nlines",
    "rtl\u202emark",
    "line\u2028separator",
    "lone\ud800surrogate",
    "constructor",
    "__proto__",
    "$\\alpha$",
    "ポケモン",
    "שלום",
]
LABELS = [
    *("SmilingWolf", "JoyTag", "EVA02-large v3", "SwinV2 v3", "MOAT v2"),
    *("PixAI v1.0", "Camie v2", "CL Tagger 1.02", "OppaiOracle v1.1"),
]
NAMES = [
    "wd-v1-4-vit-tagger-v2",
    "joytag",
    "wd-eva02-large-tagger-v3",
    "wd-swinv2-tagger-v3",
    "wd-v1-4-moat-tagger-v2",
    "pixai-tagger-v1.0",
    "camie-tagger-v2",
    "cl-tagger-1.02",
    "oppai-oracle-v1.1",
]
WORDS = [
    "long",
    "short",
    "blue",
    "red",
    "green",
    "open",
    "closed",
    "white",
    "black",
    "striped",
    "torn",
    "floral",
    "hair",
    "eyes",
    "skirt",
    "dress",
    "ribbon",
    "gloves",
    "hat",
    "boots",
    "sky",
    "smile",
    "looking",
    "standing",
    "sitting",
    "holding",
    "sword",
    "flower",
    "cat",
    "wings",
]
CATEGORIES = ["general", "character", "copyright", "artist", "meta"]
MIN_ID, MAX_ID = 6734042, 6769098
OWN = 10**12  # Ids above are of one's own images.
MIN_COUNTS = (10, 30, 100, 300)
KEYS = ("precision", "recall", "f1", "ap", "mcc")
HOSTILE_LABELS = [
    "<img src=x onerror=window.hacked=1>|`x`",
    "q\"u'o%{x}te\n\u202eevil</script><script>window.hacked=1</script>",
    "שלום &amp; <extra>",
]


def metrics_sample(
    tags: int = 60,
    models: int = 2,
    *,
    posts: int = 32768,
    seed: int = 0,
    bootstrap: bool = True,
    hostile: bool = False,
    labels: list[str] | None = None,
) -> dict[str, Any]:
    """`tags` tags and up to nine models; the first tags carry hostile names if wanted.

    `labels`, where given, sets how many models there are.
    """
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys("_".join(rng.choice(WORDS, 3)) for _ in range(tags * 3)))[:tags]
    names += [f"tag_{index}" for index in range(tags - len(names))]
    if hostile:
        names[: len(HOSTILE)] = HOSTILE[:tags]
    counts = np.sort(np.clip(posts * 0.7 / np.arange(1, tags + 1) ** 0.95, 10, None).astype(int))
    counts = counts[::-1]
    categories = list(rng.choice(CATEGORIES, tags, p=[0.72, 0.14, 0.09, 0.03, 0.02]))
    hard = rng.beta(2, 2.4, tags)
    shown = labels or LABELS[:models]
    made = [
        _model(rng, index, label, hard, counts, categories, posts, bootstrap)
        for index, label in enumerate(shown)
    ]
    return {
        "version": 2,
        "created": "2026-01-31T12:00:00Z",
        "command": "validate.py --models " + ",".join(model["name"] for model in made),
        "posts": {
            "count": posts,
            "min_id": MIN_ID,
            "max_id": MAX_ID,
            "sha256": "a1" * 32,
            "ground_truth_sha256": "b2" * 32,
        },
        "site": "https://danbooru.donmai.us",
        "tags": {"count": tags, "min_count": 10, "pinned": 0, "sha256": "c3" * 32},
        "lost_tags": [
            {"models": [model["name"]], "category": category, "tags": tags // (2 + place)}
            for place, (model, category) in enumerate(zip(made[1:], CATEGORIES, strict=False))
        ],
        "moved": None,
        "bootstrap": {
            "resamples": 200 if bootstrap else 0,
            "seed": 0,
            "confidence": 0.95,
            "unit": "none",
            "clusters": posts,
            "largest": 1,
            "chained": 0,
        },
        "device": "NVIDIA H100 80GB HBM3",
        "run": {
            "posts": posts,
            "seconds": 812.4,
            "images_per_second": posts / 812.4,
            "host_memory": 9_400_000_000,
        },
        "software": {
            "python": "3.11.2",
            "numpy": "2.4.6",
            "torch": "2.13.0",
            "onnxruntime": "1.31",
        },
        "tag_names": names,
        "tag_categories": categories,
        "tag_counts": counts.tolist(),
        "min_counts": {str(least): int((counts >= least).sum()) for least in MIN_COUNTS},
        "models": made,
        "pairs": [
            _pair(a, b, tags, bootstrap) for index, a in enumerate(made) for b in made[index + 1 :]
        ],
        "disagreements": [
            {"post": MIN_ID + place, "differences": 40 - place, "f1": [0.5] * len(made)}
            for place in range(5)
        ],
        "audit": _audit(made[: max(1, len(made) - 1)], bootstrap),
        "best": {
            "equal_f1": _by(made, lambda model: model["overall"]["equal"]["macro"]["f1"]["value"]),
            "f1": _by(made, lambda model: model["overall"]["own"]["macro"]["f1"]["value"]),
            "ap": _by(made, lambda model: model["overall"]["ap"]["macro"]["value"]),
        },
    }


def _by(models: list[dict[str, Any]], figure: Callable[[dict[str, Any]], float]) -> list[str]:
    """The models' names, the highest figure first."""
    return [model["name"] for model in sorted(models, key=figure, reverse=True)]


def _pair(a: dict[str, Any], b: dict[str, Any], tags: int, bootstrap: bool) -> dict[str, Any]:
    overall = _differences(a, b, bootstrap)
    return {
        "a": a["name"],
        "b": b["name"],
        "overall": overall,
        "design_effect": dict.fromkeys(("precision", "recall", "f1", "ap"), 1.0),
        "simultaneous": {
            "f1": overall["own"]["macro"]["f1"],
            "equal_f1": overall["equal"]["macro"]["f1"],
            "ap": overall["ap"]["macro"],
        },
        "by_tag": {key: _record(a, b, key) for key in ("f1", "ap")},
        "shared": _shared(a, b, tags, bootstrap),
    }


def runs_sample(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Six runs, the last of them this one; the first two were over other tags."""
    runs = []
    for place in range(6):
        models = [
            {
                **{key: model[key] for key in ("name", "label", "fingerprint")},
                "f1": _moved(model["overall"]["own"]["macro"]["f1"], 0.004 * (5 - place)),
                "ap": _moved(model["overall"]["ap"]["macro"], 0.002 * (5 - place)),
            }
            for model in metrics["models"]
        ]
        runs.append(
            {
                "date": f"2026-01-{26 + place}T12:00:00Z",
                "posts": metrics["posts"]["count"],
                "tags": metrics["tags"]["count"] + (40 if place < 2 else 0),
                "selection": ("d4" if place < 2 else "e5") * 32,
                "models": models[: 1 + place],
            }
        )
    runs[-1]["models"] = models
    return runs


def _moved(figure: dict[str, float | None], by: float) -> dict[str, float | None]:
    return {name: None if value is None else value - by for name, value in figure.items()}


def as_own_images(metrics: dict[str, Any]) -> None:
    """Make the posts one's own images: no site, no rating, no model has been trained on them."""
    metrics["site"] = None
    metrics["posts"].update(min_id=OWN + 1, max_id=OWN + metrics["posts"]["count"])
    for model in metrics["models"]:
        model.update(ratings=None, by_rating={}, maybe_seen=None)
        for piece in model["by_age"]:
            move = OWN + 1 - MIN_ID
            piece.update(first=piece["first"] + move, last=piece["last"] + move, maybe_seen=None)
            piece.update(first_day="", last_day="")


def _audit(models: list[dict[str, Any]], bootstrap: bool) -> dict[str, Any]:
    """Corrected figures of some of the models."""

    def corrected(model: dict[str, Any]) -> dict[str, Any]:
        raw = model["overall"]["own"]["micro"]
        keys = {"precision": "precision", "pooled_recall": "recall", "f1": "f1"}
        return {key: _interval(raw[name]["value"] + 0.1, bootstrap) for key, name in keys.items()}

    site = {"missing": _interval(0.21, True, 0.03), "wrong": _interval(0.02, True, 0.01)}
    return {
        "drawn": 400,
        "judged": 391,
        "cannot_say": 9,
        "judges": 2,
        "unknown": 0,
        "repeated": 0,
        "damaged": 0,
        "further": 2100,
        "models": [
            {
                "name": model["name"],
                **corrected(model),
                "by_category": {},
                "without_errors": None,
            }
            for model in models
        ],
        "pairs": [
            {
                "a": a["name"],
                "b": b["name"],
                **{key: _interval(0.01, bootstrap) for key in corrected(a)},
            }
            for a, b in itertools.combinations(models, 2)
        ],
        "site": site,
        "site_by_category": {"general": site},
        "agreement": {"pairs": 40, "agreed": 38, "kappa": 0.87, "accuracy": 0.97},
    }


def as_mean(metrics: dict[str, Any]) -> None:
    """Make the last model the mean of the others."""
    *parts, model = metrics["models"]
    names = [part["name"] for part in parts]
    for pair in metrics["pairs"]:
        if pair["b"] == model["name"]:
            pair.update(b="+".join(names))
    for group in metrics["best"].values():
        group[:] = ["+".join(names) if name == model["name"] else name for name in group]
    kept = [lost for lost in metrics["lost_tags"] if model["name"] not in lost["models"]]
    metrics["lost_tags"] = kept
    model.update(name="+".join(names), mean_of=names, revision=None, speed=[])
    model.update(ratings=None, images=[part["images"][0] for part in parts])
    model.update(label=" + ".join(part["label"] for part in parts))
    model.update(threshold="the mean of its models' thresholds")
    model.update(source="the mean of " + " and ".join(names))


def _interval(value: float, bootstrap: bool, half: float = 0.004) -> dict[str, float | None]:
    value = float(value)
    low, high = (value - half, value + half * 1.1) if bootstrap else (None, None)
    return {"value": value, "low": low, "high": high}


def _plain(f1: float, shift: float = 0.0) -> dict[str, float]:
    return {
        "precision": float(np.clip(f1 + 0.05 + shift, 0, 1)),
        "recall": float(np.clip(f1 - 0.04 - shift, 0, 1)),
        "f1": float(f1),
        "mcc": float(np.clip(f1 - 0.01, 0, 1)),
    }


def _set(f1: float, bootstrap: bool, shift: float = 0.0) -> dict[str, Any]:
    return {key: _interval(value, bootstrap) for key, value in _plain(f1, shift).items()}


def _without_mcc(f1: float, bootstrap: bool) -> dict[str, Any]:
    figures = _set(f1, bootstrap)
    del figures["mcc"]
    return figures


def _group(f1: float, bootstrap: bool = False) -> dict[str, Any]:
    macro, micro = {**_plain(f1), "ap": float(f1 + 0.01)}, _plain(min(f1 + 0.15, 0.95))
    return {
        way: {name: _interval(value, bootstrap, 0.02) for name, value in values.items()}
        for way, values in (("macro", macro), ("micro", micro))
    }


def _model(
    rng: np.random.Generator,
    index: int,
    label: str,
    hard: np.ndarray,
    counts: np.ndarray,
    categories: list[str],
    posts: int,
    bootstrap: bool,
) -> dict[str, Any]:
    tags = len(hard)
    ap = np.clip(hard * (0.85 + 0.05 * index) + rng.normal(0, 0.05, tags), 0.001, 0.999)
    f1 = np.clip(ap * 0.95 + rng.normal(0, 0.03, tags), 0, 1)
    precision = np.clip(f1 + rng.normal(0.05, 0.08, tags), 0, 1)
    recall = np.clip(f1 - rng.normal(0.04, 0.08, tags), 0, 1)
    threshold: float | dict[str, float] = round(0.35 + 0.05 * index, 4)
    if index == 2:
        threshold = {"general": 0.35, "character": 0.85, "copyright": 0.5, "artist": 0.5}
    own = None if isinstance(threshold, dict) else threshold
    grid = np.linspace(0.01, 0.99, 99)
    spread = 1 / (1 + np.exp(8 * (grid - 0.45 - 0.03 * index)))
    curves: dict[str, list[float]] = {"threshold": grid.tolist()}
    for way, level in (("micro", 0.85), ("macro", 0.62)):
        p, r = level * (0.35 + 0.65 * grid**0.7), level * 1.1 * spread
        curves[f"{way}_precision"] = p.tolist()
        curves[f"{way}_recall"] = r.tolist()
        curves[f"{way}_f1"] = (2 * p * r / (p + r)).tolist()
    macro = float(f1.mean())
    name = NAMES[index] if index < len(NAMES) else f"model-{index}"
    last = 6744000 if index == 3 else 5944504
    return {
        "name": name,
        "label": label,
        "source": f"org/{name}",
        "revision": "v2.0",
        "threshold": threshold,
        "last_post_id": last,
        "held_out": None,
        "validated_on": None,
        "precision": "float32",
        "store": "float16" if index == 1 else "float32",
        "fingerprint": f"{index:064x}",
        "outputs_sha256": f"{index:064x}",
        "maybe_seen": 5571 if index == 3 else 0,
        "vocabulary": 9083,
        "design_effect": dict.fromkeys(("precision", "recall", "f1", "ap"), 1.0),
        "mean_of": [],
        "weights": {"model.onnx": f"{index + 1:x}" * 64},
        "tags_file": {"selected_tags.csv": f"{index + 2:x}" * 64},
        "parameters": None if index == 4 else 91_491_509 * (index + 1),
        "file_size": 366_000_000 * (index + 1),
        "images": [
            {
                "size": 448,
                "pad": "square",
                "resize": "area",
                "channels": "BGR",
                "layout": "NHWC",
                "scale": 1.0,
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
                "color": [255, 255, 255],
                "first": None,
            }
        ],
        "speed": _speed(index, posts),
        "by_age": _by_age(rng, macro + 0.15, posts, last if index == 3 else None, bootstrap),
        "overall": {
            "own": {
                "threshold": own,
                "macro": _set(macro, bootstrap),
                "micro": _set(macro + 0.15, bootstrap),
            },
            "equal": {
                "threshold": 0.31,
                "macro": _set(macro - 0.01, bootstrap, -0.04),
                "micro": _set(macro + 0.15, bootstrap, -0.045),
            },
            "best": {
                "threshold": 0.27,
                "macro": _set(macro + 0.01, bootstrap),
                "micro": _set(macro + 0.14, bootstrap),
            },
            "per_tag_best": {"macro": _set(macro + 0.06, bootstrap)},
            "cross_fit": {
                kind: {way: _set(macro + more, bootstrap=False) for way in ("macro", "micro")}
                for kind, more in (("one", 0.005), ("category", 0.02), ("tag", 0.03))
            },
            "ap": {
                "macro": _interval(ap.mean(), bootstrap),
                "micro": _interval(ap.mean() + 0.2, bootstrap),
            },
            "recall_at_precision": {
                "0.90": _interval(macro - 0.1, bootstrap),
                "0.80": _interval(macro, bootstrap),
            },
            "precision_at_recall": {"0.50": _interval(min(macro + 0.3, 0.97), bootstrap=False)},
            "min_count": {
                str(least): {
                    "f1": _interval(f1[counts >= least].mean(), bootstrap=False),
                    "ap": _interval(ap[counts >= least].mean(), bootstrap=False),
                }
                for least in MIN_COUNTS
                if (counts >= least).any()
            },
            "per_image": {
                "tags": _interval(21.5 + index, bootstrap, 0.1),
                "false_tags": _interval(6.5 + index, bootstrap, 0.05),
                "f1": _interval(macro + 0.12, bootstrap),
            },
            "coverage": _interval(0.81 + 0.01 * index, bootstrap),
            "calibration_error": _interval(0.02 + 0.004 * index, bootstrap, 0.001),
        },
        "by_category": {
            category: {
                "tags": categories.count(category),
                **_group(float(f1[np.array(categories) == category].mean()), bootstrap),
            }
            for category in CATEGORIES
            if category in categories
        },
        "by_rating": {
            rating: {
                "posts": posts // 4,
                **_group(macro + shift),
                "micro": _group(macro + shift, bootstrap)["micro"],
            }
            for rating, shift in zip("gsqe", (0.03, 0.01, -0.02, -0.01), strict=True)
        },
        "by_frequency": [
            {
                "low": low,
                "high": high,
                "tags": int(inside.sum()),
                **_group(float(f1[inside].mean()), bootstrap),
            }
            for low, high in ((10, 29), (30, 99), (100, 299), (300, 999), (1000, posts))
            if (inside := (counts >= low) & (counts <= high)).any()
        ],
        "all_tags": {
            "tags": 4 * tags,
            "known": 2 * tags,
            "macro": _without_mcc(macro / 2, bootstrap),
            "micro": _without_mcc(macro / 2 + 0.1, bootstrap),
            "by_category": {
                category: {
                    "tags": 2 * categories.count(category),
                    "known": categories.count(category),
                    "macro": _without_mcc(macro / 2, bootstrap),
                }
                for category in CATEGORIES
            },
        },
        # The second model does not rate.
        "ratings": None
        if index == 1
        else {
            "names": ["g", "s", "q", "e"],
            "posts": posts,
            "accuracy": _interval(0.71, bootstrap),
            "macro_f1": _interval(0.65, bootstrap),
            "confusion": [
                [posts // (5 if here == there else 60) for there in range(4)] for here in range(4)
            ],
        },
        "curves": curves,
        "calibration": [
            {
                "low": step / 15,
                "high": (step + 1) / 15,
                "count": int(1e7 * 0.3**step) + 40,
                "mean_score": (step + 0.5) / 15,
                "positive_rate": ((step + 0.5) / 15) ** (1.1 + 0.1 * index),
            }
            for step in range(15)
        ],
        "per_tag": {
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "f1": f1.tolist(),
            "ap": ap.tolist(),
            "mcc": (f1 - 0.01).tolist(),
            "best_threshold": rng.uniform(0.1, 0.6, tags).tolist(),
            "best_f1": np.clip(f1 + 0.05, 0, 1).tolist(),
            "tuned_threshold": rng.uniform(0.1, 0.6, tags).astype(np.float32).tolist(),
            "tuned_f1": np.clip(f1 + 0.05, 0, 1).tolist(),
            "cross_fit_f1": np.clip(f1 + 0.03, 0, 1).tolist(),
        },
        "tuned": {
            "fewest_positives": 20,
            "one": _tuned(macro, counts),
            "category": {
                category: _tuned(macro, counts[np.array(categories) == category])
                for category in CATEGORIES
                if category in categories
            },
        },
        "score_histogram": _histograms(rng, counts, posts),
        "examples": {
            side: [
                [
                    [int(post), float(score)]
                    for post, score in zip(
                        rng.integers(6734042, 6769099, 5),
                        step * np.sort(step * rng.random(5)),
                        strict=True,
                    )
                ]
                for _ in range(tags)
            ]
            for side, step in (("false_alarms", -1), ("misses", 1))
        },
    }


def _speed(index: int, posts: int) -> list[dict[str, Any]]:
    """Of the fifth model nothing is known; the seventh ran on two devices."""
    if index == 4:
        return []
    made = [("NVIDIA H100 80GB HBM3", posts, 96.0 + 40 * index, 32)]
    if index == 6:
        made.append(("CPU", 320, 411.5, 8))
    return [
        {
            "posts": run,
            "seconds": seconds,
            "device": device,
            "batch": batch,
            "models": 2,
            "gpu_memory": None if device == "CPU" else 5_200_000_000,
            "host_memory": 9_400_000_000,
            "images_per_second": run / seconds,
        }
        for device, run, seconds, batch in made
    ]


def _by_age(
    rng: np.random.Generator, f1: float, posts: int, last: int | None, bootstrap: bool
) -> list[dict[str, Any]]:
    """Ten slices; a model that has seen posts up to `last` is better on those."""
    edges = np.linspace(MIN_ID, MAX_ID + 1, 11).astype(int)
    slices = []
    for place, (first, end) in enumerate(itertools.pairwise(edges)):
        seen = last is not None and first <= last
        value = float(np.clip(f1 + 0.06 * seen + rng.normal(0, 0.004), 0.05, 0.95))
        figures = _group(value, bootstrap)
        micro = {
            name: _interval(figure, bootstrap, 0.012) for name, figure in _plain(value).items()
        }
        slices.append(
            {
                "first": int(first),
                "last": int(end - 1),
                "posts": posts // 10,
                "tags": 55,
                "first_day": f"2023-10-{place + 1:02}",
                "last_day": f"2023-10-{place + 2:02}",
                "maybe_seen": posts // 10 if seen else 0,
                "macro": figures["macro"],
                "micro": {**micro, "ap": _interval(value + 0.02, bootstrap=False)},
            }
        )
    return slices


def _record(a: dict[str, Any], b: dict[str, Any], key: str) -> dict[str, int]:
    ahead = np.array(a["per_tag"][key]) - np.array(b["per_tag"][key])
    signs = {"wins": ahead > 0, "losses": ahead < 0, "ties": ahead == 0}
    return {name: int(found.sum()) for name, found in signs.items()} | {"both_zero": 0}


def _tuned(f1: float, counts: np.ndarray) -> dict[str, float]:
    return {
        "threshold": 0.30078125,
        "f1": f1 + 0.01,
        "cross_fit_f1": f1 + 0.009,
        "positives": int(counts.sum()),
    }


def _shared(a: dict[str, Any], b: dict[str, Any], tags: int, bootstrap: bool) -> dict[str, Any]:
    sides = [{**model["overall"]["own"]["macro"]} for model in (a, b)]
    for side, model in zip(sides, (a, b), strict=True):
        del side["mcc"]
        side["ap"] = model["overall"]["ap"]["macro"]
    difference = {
        name: _interval(sides[0][name]["value"] - sides[1][name]["value"], bootstrap)
        for name in sides[0]
    }
    entry = {"tags": tags, "a": {"macro": sides[0]}, "b": {"macro": sides[1]}}
    entry["difference"] = {"macro": difference}
    return {**entry, "by_category": {"general": entry}}


def _histograms(rng: np.random.Generator, counts: np.ndarray, posts: int) -> dict[str, Any]:
    """Counts of scores that fall off from the first bin, and of posts with the tag also rise."""
    falling = 0.5 ** np.arange(1, 33)
    rising = falling + falling[::-1]
    return {
        "positive": rng.multinomial(counts, rising / rising.sum()).tolist(),
        "negative": rng.multinomial(posts - counts, falling / falling.sum()).tolist(),
    }


def _differences(a: dict[str, Any], b: dict[str, Any], bootstrap: bool) -> dict[str, Any]:
    def minus(left: Any, right: Any) -> Any:
        if "value" in left:
            return _interval(left["value"] - right["value"], bootstrap, 0.003)
        return {key: minus(left[key], right[key]) for key in left if key != "threshold"}

    return dict(minus(a["overall"], b["overall"]))
