"""validate.py --audit: what it asks, what it makes of the answers, and of files that are none."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model, write_mappings
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, saved, validate

import numpy as np
import pytest

pytestmark = pytest.mark.slow

MODELS = ("one", "two", "three")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the predictions of three models and no audit."""
    folder = tmp_path_factory.mktemp("made") / "data"
    folder.mkdir()
    make_data(folder, 80)
    write_mappings(folder, [], [])
    cards = [make_model(folder, name, TAGS, seed=seed) for seed, name in enumerate(MODELS)]
    ok(validate(folder, *cards))
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(made, tmp_path / "data")
    yield tmp_path / "data"


def run(data: Path, *models: str, audit: int | None = None) -> Any:
    more = QUICK if audit is None else (*QUICK, "--audit", audit)
    return ok(validate(data, *(data / f"{name}.toml" for name in models), more=more))


def drawn(data: Path) -> dict[tuple[int, str], float]:
    pairs = json.loads((data / "audit.json").read_text())["pairs"]
    return {(pair["post"], pair["tag"]): pair["probability"] for pair in pairs}


def asked(data: Path) -> list[list[Any]]:
    """The pairs that the page asks about."""
    html = (data / "audit.html").read_text()
    start = html.index('id="data">') + len('id="data">')
    found = json.loads(html[start : html.index("</script>", start)])
    return [pair for pair in found["pairs"] if not pair[3]]


def line(post: int, tag: str, **keys: Any) -> str:
    given = {"post": post, "tag": tag, "judgement": "yes", "judge": "a", "time": 1, **keys}
    return json.dumps(given) + "\n"


def answer(data: Path, truth: dict[tuple[int, str], bool], name: str = "judgements.jsonl") -> None:
    """Judge all that was drawn, by `truth`."""
    (data / name).write_text(
        "".join(
            line(*pair, judgement="yes" if truth[pair] else "no", judge=name)
            for pair in drawn(data)
        )
    )


def found(data: Path) -> Any:
    return json.loads((data / "metrics.json").read_text())["audit"]


def truth_of(data: Path, seed: int = 0) -> tuple[dict[tuple[int, str], bool], dict[str, Any]]:
    """An invented truth of all pairs: (by pair, and as arrays with what the models predict)."""
    held = saved(data, "one")
    posts, tags = held["post_ids"].tolist(), held["tags"]
    true = np.random.default_rng(seed).random((len(posts), len(tags))) < 0.6
    pairs = {
        (post, tag): bool(true[row, column])
        for row, post in enumerate(posts)
        for column, tag in enumerate(tags)
    }
    carried = {post["id"]: post["tag_string"].split() for post in lines(data / "posts.jsonl")}
    tagged = np.array([[tag in carried[post] for tag in tags] for post in posts])
    predicted = {name: saved(data, name)["predictions"] >= np.float32(0.5) for name in MODELS}
    return pairs, {"true": true, "tagged": tagged, **predicted}


def lines(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_with_every_pair_judged_the_figures_are_the_truth(data: Path) -> None:
    run(data, "one", "two", audit=5000)
    truth, arrays = truth_of(data)
    answer(data, truth)
    out = run(data, "one", "two").out
    audit = found(data)
    pool = arrays["tagged"] | arrays["one"] | arrays["two"]
    assert audit["drawn"] == audit["judged"] == pool.sum()
    assert all(probability == 1 for probability in drawn(data).values())
    true = arrays["true"] & pool
    metrics = json.loads((data / "metrics.json").read_text())
    category = dict(zip(metrics["tag_names"], metrics["tag_categories"], strict=True))
    general = np.array([category[tag] == "general" for tag in saved(data, "one")["tags"]])
    assert 0 < general.sum() < len(TAGS)
    for model in audit["models"]:
        predicted = arrays[model["name"]]
        right = (predicted & true).sum()
        assert model["precision"]["value"] == pytest.approx(right / predicted.sum())
        assert model["pooled_recall"]["value"] == pytest.approx(right / true.sum())
        f1 = 2 * right / (predicted.sum() + true.sum())
        assert model["f1"]["value"] == pytest.approx(f1)
        assert f"F1 {f1:.4f} (" in out
        one = predicted[:, general]
        inside = model["by_category"]["general"]["precision"]["value"]
        assert inside == pytest.approx((one & true[:, general]).sum() / one.sum())
    missing = (true & ~arrays["tagged"]).sum() / true.sum()
    assert audit["site"]["missing"]["value"] == pytest.approx(missing)
    wrong = (arrays["tagged"] & ~true).sum() / arrays["tagged"].sum()
    assert audit["site"]["wrong"]["value"] == pytest.approx(wrong)
    assert audit["agreement"] is None


def test_a_later_audit_asks_about_other_pairs_and_earlier_answers_count_on(data: Path) -> None:
    """Also with a model more, which has no corrected figures until it was audited."""
    run(data, "one", "two", audit=60)
    truth, _ = truth_of(data)
    first = drawn(data)
    assert len(first) == 60 == len(asked(data))
    answer(data, truth)
    ended = run(data, "one", "two", "three")
    assert "no corrected figures of" in ended.err and "--audit" in ended.err
    assert [model["name"] for model in found(data)["models"]] == ["one", "two"]

    run(data, "one", "two", "three", audit=40)
    both = drawn(data)
    assert first.keys() < both.keys()
    assert all(both[pair] >= probability for pair, probability in first.items())
    new = {(post, tag) for post, tag, *_ in asked(data)}
    assert new == both.keys() - first.keys()
    assert 40 <= len(new) <= 44
    answer(data, truth)
    ended = run(data, "one", "two", "three")
    assert ended.err == ""
    assert [model["name"] for model in found(data)["models"]] == list(MODELS)
    assert found(data)["judged"] == len(both)
    # Of the first two alone, what was drawn for the third as well is of use too.
    run(data, "one", "two")
    assert 60 <= found(data)["judged"] <= len(both)


def test_the_page_gives_nothing_away(data: Path) -> None:
    """Neither who predicts a pair, nor whether it is tagged, nor by the order or the examples."""
    cards = data / "one.toml", data / "two.toml"
    ok(validate(data, *cards, more=(*QUICK, "--audit")))
    assert len(asked(data)) == 400
    _, arrays = truth_of(data)
    held = saved(data, "one")
    row = {post: number for number, post in enumerate(held["post_ids"].tolist())}
    pairs = asked(data)
    assert all(len(pair) == 4 and pair[2] in ("general", "character") for pair in pairs)
    kinds = np.array(
        [
            arrays["tagged"][row[post], held["tags"].index(tag)]
            + 2 * arrays["one"][row[post], held["tags"].index(tag)]
            for post, tag, *_ in pairs
        ]
    )
    order = np.arange(len(kinds))
    for kind in range(4):
        places = order[kinds == kind]
        error = len(kinds) / (12 * len(places)) ** 0.5
        assert abs(places.mean() - order.mean()) < 4 * error
    html = (data / "audit.html").read_text()
    for word in (*MODELS, "Tiny", "probability", "predicted"):
        assert word not in html[html.index('id="data"') : html.rindex("<script>")]


def test_posts_that_came_later_need_an_audit_of_their_own(data: Path) -> None:
    ok(validate(data, data / "one.toml", more=(*QUICK, "--posts", 40, "--audit", 60)))
    truth, _ = truth_of(data)
    answer(data, truth)
    ended = run(data, "one")
    assert "posts or tags have come in since the last audit" in ended.err
    assert found(data) is None
    run(data, "one", audit=40)
    answer(data, truth)
    assert run(data, "one").err == ""
    assert 60 <= found(data)["judged"] == len(drawn(data))
    # Of a part of the posts, only what was drawn there counts.
    ok(validate(data, data / "one.toml", more=(*QUICK, "--posts", 20)))
    assert 0 < found(data)["judged"] < 60


def test_two_people(data: Path) -> None:
    """Cohen's kappa, and the figures with what both get wrong taken out."""
    run(data, "one", "two", audit=200)
    truth, _ = truth_of(data)
    answer(data, truth)
    slips = dict(truth)
    pairs = list(drawn(data))
    for pair in pairs[:20]:
        slips[pair] = not truth[pair]
    answer(data, slips, "judgements-b.jsonl")
    out = run(data, "one", "two").out
    agreement = found(data)["agreement"]
    assert (agreement["pairs"], agreement["agreed"]) == (200, 180)
    assert agreement["accuracy"] == pytest.approx((1 + 0.8**0.5) / 2)
    a = np.array([truth[pair] for pair in pairs])
    b = np.array([slips[pair] for pair in pairs])
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    assert agreement["kappa"] == pytest.approx((0.9 - chance) / (1 - chance))
    assert f"agree on 180 of 200 pairs (Cohen's kappa {agreement['kappa']:.2f})" in out
    for model in found(data)["models"]:
        counted, without_errors = model["precision"]["value"], model["without_errors"]["precision"]
        assert without_errors != counted and (without_errors > 0.5) == (counted > 0.5)
        assert f"{model['without_errors']['f1']:.4f}" in out
    assert "each is right about 95% of the time" in out


def test_files_that_are_no_judgements(data: Path) -> None:
    run(data, "one", "two", audit=60)
    truth, _ = truth_of(data)
    answer(data, truth)
    run(data, "one", "two")
    before = found(data)
    (post, tag), *_ = drawn(data)
    pair = line(post, tag, judgement="no", judge="b")
    damaged = [
        "not JSON\n", "[1]\n", "NaN\n", '"yes"\n', "{}\n", "[" * 9000 + "\n", "x" * 50_000 + "\n",
        line(post, tag, judgement="<script>alert(1)</script>"), line(post, tag, judgement=1),
        line(post, tag, judgement=["yes"]), line(post, tag, judge=""), line(post, tag, judge=7),
        line(post, tag, judge="j" * 500), line(post, tag, time="now"), line(post, tag, time=True),
        line(post, tag, time=float("nan")), line(post, tag, time=float("inf")),
        line(-1, tag), line(2**60, tag), line(post, tag).replace(str(post), f"{post}.0"),
        line(post, tag).replace(f'"{tag}"', "null"), line(post, tag)[:-9] + "\n",
    ]  # fmt: skip
    unknown = [line(1, tag), line(post, "<img src=x onerror=alert(1)>"), line(post, "\ud800")]
    (data / "judgements-hostile.jsonl").write_text(
        "".join(["\ufeff\n", *damaged, *unknown, "\n", "  \n"]), errors="surrogatepass"
    )
    ended = run(data, "one", "two")
    assert f"left out {len(damaged)} lines that are no judgements" in ended.err
    assert "judgements-hostile.jsonl line 2" in ended.err
    assert f"left out {len(unknown)} judgements of pairs" in ended.err
    counts = {"damaged": len(damaged), "unknown": len(unknown)}
    assert found(data) == {**before, **counts}

    # The same answer in two files counts once, and of two answers the later one, wherever it is.
    first = (data / "judgements.jsonl").read_text()
    (data / "judgements (1).jsonl").write_text(first)
    (data / "judgements-hostile.jsonl").write_text(pair.replace('"b"', '"judgements.jsonl"'))
    run(data, "one", "two")
    assert found(data)["repeated"] == 61 and found(data)["judges"] == 1
    again = found(data)["models"] == before["models"]
    assert again == (not truth[post, tag])
    changed = line(post, tag, judgement="no", judge="judgements.jsonl", time=0)
    (data / "judgements-hostile.jsonl").write_text(changed)
    run(data, "one", "two")
    assert found(data)["models"] == before["models"]

    # What nobody can say is a random part of the pairs.
    for path in data.glob("judgements*.jsonl"):
        path.unlink()
    (data / "judgements.jsonl").write_text(
        first + "".join(line(*each, judgement="unsure", judge="c") for each in drawn(data))
    )
    run(data, "one", "two")
    assert (found(data)["judged"], found(data)["cannot_say"]) == (60, 0)
    (data / "judgements.jsonl").write_text(first.replace('"yes"', '"unsure"'))
    run(data, "one", "two")
    yes = first.count('"yes"')
    assert (found(data)["judged"], found(data)["cannot_say"]) == (60 - yes, yes)


def test_a_very_long_file(data: Path) -> None:
    run(data, "one", "two", audit=60)
    truth, _ = truth_of(data)
    answer(data, truth)
    with (data / "judgements-long.jsonl").open("w") as file:
        for _ in range(20):
            file.write("{}\n" * 9900 + line(1, "no_such_tag") * 100)
    ended = run(data, "one", "two")
    assert "left out 198000 lines" in ended.err and "left out 2000 judgements" in ended.err
    assert found(data)["judged"] == 60


def test_too_few_pairs_and_too_few_judgements(data: Path) -> None:
    refused(
        validate(data, data / "one.toml", data / "two.toml", more=(*QUICK, "--audit", 2)),
        "--audit 2", "give a larger number",
    )  # fmt: skip
    run(data, "one", audit=30)
    (data / "judgements.jsonl").write_text("".join(line(*pair) for pair in [*drawn(data)][:9]))
    ended = run(data, "one")
    assert "of 30 pairs 9 are judged, too few" in ended.err
    assert found(data) is None
    (data / "audit.json").unlink()
    assert "is left out without" in run(data, "one").err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', "NaN", "probability", "tag", "designs", "cut"],
)
def test_a_damaged_design_is_told(data: Path, text: str) -> None:
    run(data, "one", audit=30)
    path = data / "audit.json"
    whole = json.loads(path.read_text())
    if text == "probability":
        whole["pairs"][3]["probability"] = 0.0
    elif text == "tag":
        whole["pairs"][3]["tag"] = 7
    elif text == "designs":
        whole["designs"][0]["post_ids"] = ["1"]
    if text in ("probability", "tag", "designs"):
        text = json.dumps(whole)
    path.write_text(path.read_text()[:200] if text == "cut" else text)
    card = data / "one.toml"
    refused(validate(data, card, more=(*QUICK, "--audit", 30)), "audit.json", "move it elsewhere")
