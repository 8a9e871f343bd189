"""The text outputs: the table, its verdicts, detailed_metrics.txt, per_tag.csv, thresholds.csv."""

import csv
import io
import re
from typing import Any

from arena.report import text
from tests.report.metrics_sample import HOSTILE, HOSTILE_LABELS, as_own_images, metrics_sample

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def own(model: dict[str, Any]) -> dict[str, Any]:
    return model["overall"]["own"]["macro"]  # type: ignore[no-any-return]


def published() -> dict[str, Any]:
    """The run of the published table, with its rounded figures."""
    metrics = metrics_sample(3, 2, bootstrap=False)
    metrics["tags"]["count"] = 3993
    figures = (0.5156, 0.3943, 0.4241, 0.4368), (0.4377, 0.4264, 0.4179, 0.4040)
    for model, (precision, recall, f1, ap) in zip(metrics["models"], figures, strict=True):
        own(model)["precision"]["value"] = precision
        own(model)["recall"]["value"] = recall
        own(model)["f1"]["value"] = f1
        model["overall"]["ap"]["macro"]["value"] = ap
    return metrics


def pair(
    f1: tuple[float, float | None, float | None],
    ap: tuple[float, float | None, float | None],
    equal: tuple[float, float, float] = (0.004, -0.001, 0.009),
) -> dict[str, Any]:
    """Two models, A better than B by `f1`, `ap`, and F1 where precision equals recall: each as
    (difference, low, high)."""
    metrics = metrics_sample(3, 2, labels=["A", "B"])
    own(metrics["models"][0])["f1"]["value"] = 0.4 + f1[0]
    own(metrics["models"][1])["f1"]["value"] = 0.4
    overall = metrics["pairs"][0]["overall"]
    for found, triple in (
        (overall["own"]["macro"]["f1"], f1),
        (overall["ap"]["macro"], ap),
        (overall["equal"]["macro"]["f1"], equal),
    ):
        found["value"], found["low"], found["high"] = triple
    return metrics


def test_table_is_the_published_one() -> None:
    assert text.markdown_table(published()) == (
        "| Model       | Precision | Recall  | F1     | AP     |\n"
        "|-------------|-----------|---------|--------|--------|\n"
        "| SmilingWolf | 0.5156    | 0.3943  | 0.4241 | 0.4368 |\n"
        "| JoyTag      | 0.4377    | 0.4264  | 0.4179 | 0.4040 |\n"
        "\n"
        "32768 posts, min id 6734042, max id 6769098\n"
        "3993 tags in common after filtering by usage"
    )


def test_table_marks_and_explains_seen_posts() -> None:
    metrics = published()
    metrics["models"][1]["maybe_seen"] = 120
    lines = text.markdown_table(metrics).splitlines()
    assert lines[3].startswith("| JoyTag*     |")
    assert "| SmilingWolf |" in lines[2]
    assert lines[5] == (
        "* JoyTag may have been trained on 120 of the posts "
        "(those up to ID 5944504 and their families); "
        "--unseen-only leaves them out"
    )
    assert lines[-2].startswith("32768 posts, ")


def test_no_model_has_seen_images_of_ones_own() -> None:
    metrics = metrics_sample(3, 2)
    as_own_images(metrics)
    table = text.markdown_table(metrics)
    assert "?" not in table and "trained" not in table
    metrics["posts"]["min_id"] = 1
    assert "| JoyTag?" in text.markdown_table(metrics)


def test_table_with_intervals() -> None:
    metrics = published()
    own(metrics["models"][0])["f1"].update(low=0.4201, high=0.4283)
    assert "| 0.4241 (0.4201 to 0.4283) |" in text.markdown_table(metrics, ci=True)
    assert "(" not in text.markdown_table(metrics)


def test_equal_labels_are_told_apart() -> None:
    metrics = metrics_sample(3, 2, labels=["Same", "Same"])
    table = text.markdown_table(metrics)
    assert "| Same (wd-v1-4-vit-tagger-v2) |" in table
    assert "| Same (joytag) " in table


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=3))
def test_no_label_breaks_the_table(labels: list[str]) -> None:
    lines = text.markdown_table(metrics_sample(3, labels=labels)).split("\n")
    rows = lines[: 2 + len(labels)]
    assert all(len(re.findall(r"\|", row)) == 6 for row in rows)
    assert lines[2 + len(labels)] == ""
    assert all(line.isprintable() for line in lines)


def test_markup_in_a_label_is_escaped() -> None:
    table = text.markdown_table(metrics_sample(3, labels=["a|b", "<b>\\<i>&lt;[x](y)*`z`"]))
    assert "| a&#124;b " in table
    assert r"| \<b>\\\<i>\&lt;\[x](y)\*\`z\` |" in table


def test_verdict_more_than_noise() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    assert text.verdicts(metrics) == [
        "At their own thresholds, A's F1 is 0.0123 higher than B's "
        "(95% interval 0.0050 to 0.0190): more than noise. "
        "Whatever the thresholds: AP 0.0100 higher (more than noise), "
        "F1 where precision equals recall 0.0040 higher (no more than noise)."
    ]


def test_verdict_does_not_depend_on_the_order_of_the_models() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    said = text.verdicts(metrics)
    turned = metrics["pairs"][0]
    turned["a"], turned["b"] = turned["b"], turned["a"]
    overall = turned["overall"]
    for found in (
        *(overall["own"]["macro"]["f1"], overall["ap"]["macro"]),
        overall["equal"]["macro"]["f1"],
    ):
        found["value"], found["low"], found["high"] = (
            -found["value"],
            -found["high"],
            -found["low"],
        )
    metrics["models"].reverse()
    assert text.verdicts(metrics) == said


def test_verdict_within_noise_and_ap_the_other_way() -> None:
    metrics = pair((0.0023, -0.005, 0.009), (-0.0201, -0.03, -0.01))
    assert text.verdicts(metrics) == [
        "At their own thresholds, A's F1 is 0.0023 higher than B's "
        "(95% interval -0.0050 to 0.0090): no more than noise. "
        "Whatever the thresholds: AP 0.0201 lower (more than noise), "
        "F1 where precision equals recall 0.0040 higher (no more than noise)."
    ]


def test_verdict_of_a_draw() -> None:
    assert text.verdicts(pair((0.00001, -0.002, 0.002), (0.0, -0.001, 0.001))) == [
        "At their own thresholds, A and B have the same F1 to four decimals "
        "(95% interval -0.0020 to 0.0020): no more than noise. "
        "Whatever the thresholds: AP the same (no more than noise), "
        "F1 where precision equals recall 0.0040 higher (no more than noise)."
    ]


@pytest.mark.parametrize(
    ("posts", "said"),
    [
        (
            29,
            "; 29 posts are too few to tell whether that is more than noise. Whatever the"
            " thresholds: AP 0.0100 higher, F1 where precision equals recall 0.0040 higher.",
        ),
        (
            30,
            ": more than noise. Whatever the thresholds: AP 0.0100 higher (more than noise), F1"
            " where precision equals recall 0.0040 higher (no more than noise).",
        ),
    ],
)
def test_no_verdict_on_too_few_posts(posts: int, said: str) -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    metrics["posts"]["count"] = metrics["bootstrap"]["clusters"] = posts
    assert text.verdicts(metrics)[0].endswith(said)


def test_no_verdict_on_too_few_clusters() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    metrics["bootstrap"]["clusters"] = 29
    (said,) = text.verdicts(metrics)
    few = "; 29 clusters of posts are too few to tell whether that is more than noise. Whatever"
    assert few in said and said.endswith("F1 where precision equals recall 0.0040 higher.")
    metrics["bootstrap"]["clusters"] = 1
    assert "; one cluster is too few to tell" in text.verdicts(metrics)[0]
    metrics["posts"]["count"] = 1
    assert "; one post is too few to tell" in text.verdicts(metrics)[0]


def test_what_clusters_change_is_one_sentence() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    metrics["bootstrap"] |= {"unit": "artist", "clusters": 21340, "largest": 120}
    metrics["models"][0]["design_effect"]["f1"] = 1.914
    metrics["models"][1]["design_effect"]["f1"] = 1.806
    said = text.verdicts(metrics)
    assert said[1:] == [
        "Intervals draw 21340 clusters of posts of one artist or family, the largest of 120:"
        " F1's variance is 1.81 to 1.91 times that of independent posts (design effect)."
    ]
    for model in metrics["models"]:
        model["design_effect"]["f1"] = None
    assert text.verdicts(metrics) == said[:1]


def test_of_several_models_those_that_may_be_the_best_are_named() -> None:
    metrics = metrics_sample(3, 4, labels=["A", "B", "C", "D"])
    a, b, c, d = (model["name"] for model in metrics["models"])
    metrics["best"] = {"f1": [b, a, d], "ap": [c]}
    said = text.verdicts(metrics)
    assert said[-1] == (
        "By F1, B is the best, and A and D cannot be told from it; by average precision, C is the"
        " best by more than noise."
    )
    assert "(95% interval over all pairs " in said[0]
    metrics["bootstrap"]["clusters"] = 29
    assert not any("is the best" in sentence for sentence in text.verdicts(metrics))


def test_no_verdict_without_a_spread() -> None:
    metrics = pair((0.0123, None, None), (0.01, 0.002, 0.02))
    assert "the resamples do not differ" in text.verdicts(metrics)[0]
    ahead = pair((0.0123, 0.005, 0.019), (0.01, None, None))
    assert "AP 0.0100 higher, F1 where" in text.verdicts(ahead)[0]


def test_verdict_without_bootstrap() -> None:
    metrics = metrics_sample(3, 2, bootstrap=False)
    (said,) = text.verdicts(metrics)
    first, second = said.split(" Whatever the thresholds: ")
    assert first.endswith("without the bootstrap nothing says whether that is more than noise.")
    assert "noise" not in second


@pytest.mark.parametrize(("models", "sentences"), [(1, 0), (2, 1), (3, 4), (4, 4), (5, 5)])
def test_verdicts_stay_few(models: int, sentences: int) -> None:
    assert len(text.verdicts(metrics_sample(40, models))) == sentences


def lost(models: list[str], tags: int) -> dict[str, Any]:
    """Three models, of which some lack character tags."""
    metrics = metrics_sample(40, 3, labels=["A", "B", "C"])
    metrics["tags"]["count"] = 8000
    names = [model["name"] for model in metrics["models"]]
    lacking = [names["ABC".index(label)] for label in models]
    metrics["lost_tags"] = [{"models": lacking, "category": "character", "tags": tags}]
    for model in metrics["models"]:
        model["all_tags"]["by_category"]["character"]["known"] = 0
    return metrics


def test_the_most_of_what_the_common_tags_lost_is_told() -> None:
    assert text.lost_tags(lost(["C"], 2751)) == ["2,751 character tags are out because C has none."]
    two = lost(["B", "C"], 2751)
    assert text.lost_tags(two) == ["2,751 character tags are out because B and C have none."]
    two["models"][1]["all_tags"]["by_category"]["character"]["known"] = 3
    two["lost_tags"].append(
        {"models": [two["models"][0]["name"]], "category": "meta", "tags": 2700}
    )
    assert text.lost_tags(two) == ["2,751 character tags are out because B and C lack them."]
    assert text.summary(two)[-1] == text.lost_tags(two)[0]


def test_little_that_is_lost_is_not_told() -> None:
    assert text.lost_tags(lost(["C"], 2000))
    assert not text.lost_tags(lost(["C"], 1999))
    pinned = lost(["C"], 2751)
    pinned["tags"]["pinned"] = 1  # It is the list that leaves them out.
    assert not text.lost_tags(pinned)


def test_detailed_metrics() -> None:
    metrics = metrics_sample(3, 2, hostile=True)
    for model, figures in zip(
        metrics["models"], ((0.601, 0.52179, 0.5586, 0.58284), (1.0, 0.0, 0.0, 0.25)), strict=True
    ):
        for key, value in zip(("precision", "recall", "f1", "ap"), figures, strict=True):
            model["per_tag"][key][1] = value
    blocks = text.detailed_metrics(metrics).split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:3]] == HOSTILE[:3]
    assert blocks[1] == (
        ">_<\n"
        "SmilingWolf         : Precision 0.6010, Recall 0.5218, F1 0.5586, AP 0.5828\n"
        "JoyTag              : Precision 1.0000, Recall 0.0000, F1 0.0000, AP 0.2500"
    )
    assert blocks[3:] == [""]


def test_hostile_names_keep_detailed_metrics_in_blocks() -> None:
    metrics = metrics_sample(len(HOSTILE), labels=HOSTILE_LABELS, hostile=True)
    detailed = text.detailed_metrics(metrics)
    blocks = detailed.removesuffix("\n\n").split("\n\n")
    assert len(blocks) == len(HOSTILE)
    assert all(len(block.splitlines()) == 1 + len(HOSTILE_LABELS) for block in blocks)
    assert detailed.encode()


def test_per_tag_csv_reads_back() -> None:
    metrics = metrics_sample(40, 2, hostile=True)
    head, *rows = csv.reader(io.StringIO(text.per_tag_csv(metrics)))
    assert head == ["tag", "category", "count", "model", "precision", "recall", "f1", "ap", "mcc"]
    assert len(rows) == 40 * 2
    for place, row in enumerate(rows):
        index, model = divmod(place, 2)
        assert row[1:3] == [metrics["tag_categories"][index], str(metrics["tag_counts"][index])]
        assert row[3] == metrics["models"][model]["label"]
        figures = metrics["models"][model]["per_tag"]
        for name, cell in zip(head[4:], row[4:], strict=True):
            assert float(cell) == pytest.approx(figures[name][index], abs=1e-6)
    names = [row[0] for row in rows[::2]]
    assert names[:5] == HOSTILE[:5]
    assert names[6:10] == ["'=_=", "'+_+", "'@_@", "'-_-"]


def test_thresholds_csv_has_a_row_for_all_tags_each_category_and_each_tag() -> None:
    metrics = metrics_sample(40, 2, hostile=True)
    head, *rows = csv.reader(io.StringIO(text.thresholds_csv(metrics)))
    assert head == [
        *("model", "kind", "name", "threshold", "fitted_on"),
        *("f1", "cross_fit_f1", "positives"),
    ]
    at = 0
    for model in metrics["models"]:
        tuned, per_tag = model["tuned"], model["per_tag"]
        shared = {("one", "all"): tuned["one"]}
        shared |= {("category", name): found for name, found in tuned["category"].items()}
        for (kind, name), found in shared.items():
            assert rows[at][:3] == [model["name"], kind, name]
            assert rows[at][4] == kind
            assert rows[at][7] == str(found["positives"])
            assert float(rows[at][6]) == pytest.approx(found["cross_fit_f1"], abs=1e-6)
            at += 1
        for tag, count in enumerate(metrics["tag_counts"]):
            assert rows[at][1] == "tag"
            assert float(rows[at][3]) == per_tag["tuned_threshold"][tag]
            assert rows[at][4] == ("tag" if count >= 20 else "category")
            assert float(rows[at][5]) == pytest.approx(per_tag["tuned_f1"][tag], abs=1e-6)
            assert rows[at][7] == str(count)
            at += 1
        assert [row[2] for row in rows[at - 40 : at]][:10] == [
            *(*HOSTILE[:6], "'=_=", "'+_+", "'@_@", "'-_-"),
        ]
    assert at == len(rows)


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_no_tag_is_a_formula_or_a_second_line(name: str) -> None:
    metrics = metrics_sample(3, 1)
    metrics["tag_names"][1] = name
    table = text.per_tag_csv(metrics)
    assert len(table.splitlines()) == 4
    assert list(csv.reader(io.StringIO(table)))[2][0][0] not in "=+-@\t\r"
    rows = list(csv.reader(io.StringIO(text.thresholds_csv(metrics))))
    assert rows[-2][2] == list(csv.reader(io.StringIO(table)))[2][0]
    assert rows[-2][2][0] not in "=+-@\t\r"
