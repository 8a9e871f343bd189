"""A metrics dict of the shape arena/metrics.py makes, with invented but plausible numbers."""

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
        "posts": {"count": posts, "min_id": 6734042, "max_id": 6769098},
        "site": "https://danbooru.donmai.us",
        "tags": {"count": tags, "min_count": 10, "pinned": 0},
        "lost_tags": [],
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
        "device": "CPU",
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
    last = 6740000 if index == 3 else 5944504
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
        "fingerprint": f"{index:064x}",
        "outputs_sha256": f"{index:064x}",
        "maybe_seen": 5571 if index == 3 else 0,
        "vocabulary": 9083,
        "design_effect": dict.fromkeys(("precision", "recall", "f1", "ap"), 1.0),
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
                kind: {way: _set(macro + 0.03, bootstrap=False) for way in ("macro", "micro")}
                for kind in ("one", "category", "tag")
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
            rating: {"posts": posts // 4, **_group(macro + shift)}
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
