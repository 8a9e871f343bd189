"""Predictions files in place of models: by path, by folder, by data set, by a card's name."""

import json
import pickletools
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.validate import given
from arena.validate.ground_truth import mappings
from demo import drawings
from demo.server import serve
from demo.tiny import make_data, make_model, make_onnx, write_mappings
from tests.helpers import call, refused
from tests.test_hub_client import point
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, to_run, validate
from tests.validate.test_means import entries

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

pytestmark = pytest.mark.slow

FIGURES = ("overall", "by_category", "per_tag", "all_tags", "ratings", "maybe_seen", "fingerprint")
CARD = {"threshold": {"general": 0.45, "character": 0.52}, "last_post_id": 6_700_030}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder where models a and b were run over 40 posts."""
    folder = tmp_path_factory.mktemp("ran")
    make_data(folder, 40)
    listed = [f"1,{tag},{4 if tag == 'tag_0' else 0}" for tag in TAGS]
    (folder / "a.csv").write_text("\n".join(["tag_id,name,category", *listed]) + "\n")
    make_model(folder, "a", TAGS, card={**CARD, "label": "A", "tags": "a.csv"})
    make_model(folder, "b", TAGS, seed=1, card={"label": "B"})
    ok(validate(folder, folder / "a.toml", folder / "b.toml"))
    return folder


def bare(folder: Path, ran: Path) -> Path:
    """A data folder with the posts of `ran`, and neither images nor models."""
    folder.mkdir()
    shutil.copy(ran / "posts.jsonl", folder)
    shutil.copytree(ran / "metadata", folder / "metadata")
    return folder


def write(path: Path, held: dict[str, Any]) -> Path:
    torch.save(
        {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in held.items()}, path
    )
    return path


def state(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


def test_a_rating_of_a_tags_name_is_another_output(tmp_path: Path, ran: Path) -> None:
    data = bare(tmp_path / "data", ran)
    held = saved(ran, "a")
    columns = {"post_ids": held["post_ids"], "predictions": held["predictions"]}
    plain = {**columns, "tags": TAGS, "categories": ["general"] * 12, "threshold": 0.45}
    ratings = ["tag_0", "sensitive", "questionable", "explicit"]
    random = np.random.default_rng(0).random((len(held["post_ids"]), 4), np.float32)
    rated = {
        **plain,
        "tags": ["general", *ratings[1:], "tag_0", *TAGS],
        "categories": ["rating"] * 5 + ["general"] * 12,
        "threshold": [float("nan")] * 5 + [0.45] * 12,
        "predictions": np.hstack([random, random[:, :1], held["predictions"]]),
    }
    one = write(tmp_path / "one_predictions.pt", plain)
    other = write(tmp_path / "other_predictions.pt", rated)
    ok(validate(data, one, other, "one+other"))
    found = entries(data)
    for key in ("overall", "per_tag", "by_category"):
        assert found["one"][key] == found["other"][key], key
    assert found["one+other"]["per_tag"]["ap"] == found["one"]["per_tag"]["ap"]
    assert found["other"]["ratings"] and found["one+other"]["ratings"] is None


def test_a_folder_of_files_is_scored_as_its_models_without_images(
    tmp_path: Path, ran: Path
) -> None:
    data, folder = bare(tmp_path / "data", ran), tmp_path / "published"
    folder.mkdir()
    for name in "ab":
        shutil.copy(ran / f"{name}_predictions.pt", folder)
    before = {path: state(path) for path in folder.iterdir()}
    ended = ok(validate(data, folder, "a+b", more=(*QUICK, "--fresh")))
    assert not to_run(ended)
    found, expected = entries(data), entries(ran)
    assert list(found) == ["a", "b", "a+b"]
    for name in "ab":
        for key in FIGURES:
            assert found[name][key] == expected[name][key], key
    assert found["a"]["maybe_seen"] == 11
    assert {path: state(path) for path in folder.iterdir()} == before
    assert sorted(path.name for path in data.glob("*.pt")) == ["ground_truth.pt"]


def test_a_file_with_the_least_in_it(tmp_path: Path, ran: Path) -> None:
    data, held = bare(tmp_path / "data", ran), saved(ran, "a")
    needed = {key: held[key] for key in ("predictions", "post_ids", "tags")}
    path = write(tmp_path / "mine_predictions.pt", needed)
    ended = ok(validate(data, path))
    assert "not known which posts mine was trained on" in ended.err
    model = entries(data)["mine"]
    assert (model["label"], model["threshold"], model["last_post_id"]) == ("mine", 0.5, None)
    truth = torch.load(data / "ground_truth.pt", weights_only=True)
    y, tags = truth["ground_truth"].numpy(), truth["tags"]
    scores = held["predictions"][:, [held["tags"].index(tag) for tag in tags]].astype(float)
    p, r, f1, _ = precision_recall_fscore_support(y, scores >= 0.5, average=None, zero_division=0)
    ap = [average_precision_score(y[:, i], scores[:, i]) for i in range(len(tags))]
    for key, values in {"precision": p, "recall": r, "f1": f1, "ap": ap}.items():
        np.testing.assert_allclose(model["per_tag"][key], values, atol=1e-9)
    assert set(model["by_category"]) == {"general", "character"}  # The posts' own.


def test_a_file_in_half_precision_is_scored_by_what_it_has(tmp_path: Path, ran: Path) -> None:
    data, held = bare(tmp_path / "data", ran), saved(ran, "a")
    half = held["predictions"].astype(np.float16)
    found = []
    for kind in (np.float16, np.float32):
        path = write(tmp_path / "a_predictions.pt", {**held, "predictions": half.astype(kind)})
        ok(validate(data, path))
        found.append(entries(data)["a"]["per_tag"])
    assert found[0] == found[1]


def test_its_tags_go_through_newer_aliases(tmp_path: Path, ran: Path) -> None:
    data, held = bare(tmp_path / "data", ran), saved(ran, "a")
    tags = [f"old_{tag}" if tag == "tag_9" else tag for tag in held["tags"]]
    write_mappings(data, [("old_tag_9", "tag_9")], [])
    path = write(tmp_path / "a_predictions.pt", {**held, "tags": tags})
    ok(validate(data, path))
    assert entries(data)["a"]["per_tag"] == entries(ran)["a"]["per_tag"]


def test_posts_that_a_file_lacks_leave_the_comparison(tmp_path: Path, ran: Path) -> None:
    held = saved(ran, "b")
    rows = np.r_[35:40, 0:30][::-1].copy()
    few = {**held, **{key: held[key][rows] for key in ("predictions", "post_ids", "images")}}
    few["predictions"] = few["predictions"] * 1
    path = write(tmp_path / "few_predictions.pt", few)
    out = tmp_path / "out"
    ended = ok(validate(ran, ran / "a.toml", path, more=(*QUICK, "--out", out)))
    assert f"5 posts are left out for all models: {path} has no scores of them" in ended.err
    kept = np.sort(few["post_ids"])
    listed = (out / "validation_post_ids.txt").read_text().split()
    assert listed == [str(post) for post in kept]
    # The first of them alone: what the file lacks above is not asked for.
    first = (*QUICK, "--out", out, "--posts", 20)
    assert "left out" not in ok(validate(ran, ran / "a.toml", path, more=first)).err
    # With a list, its posts; other reasons to leave one out are told apart.
    (tmp_path / "list.txt").write_text("".join(f"{post}\n" for post in [5, *held["post_ids"]]))
    listed_there = (*QUICK, "--out", out, "--post-ids", tmp_path / "list.txt")
    ended = ok(validate(ran, ran / "a.toml", path, more=listed_there))
    assert "5 posts are left out for all" in ended.err
    assert "of the 41 posts in" in ended.err and " 1 are left out, without" in ended.err
    few["post_ids"] += 1
    write(path, few)
    refused(validate(ran, ran / "a.toml", path), "none of the 40 posts", str(path))


def test_two_checkpoints_of_one_model_are_two_rows(tmp_path: Path, ran: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(ran, data)
    old = saved(data, "a")["fingerprint"]
    elsewhere = shutil.copy(data / "a_predictions.pt", tmp_path)
    make_onnx(data / "a.onnx", len(TAGS), seed=7)
    ended = ok(validate(data, data / "a.toml"))
    aside = data / f"a-{old[:16]}_predictions.pt"
    assert f"give {aside} to --models" in ended.out
    before = state(aside)
    ended = ok(validate(data, aside, data / "a.toml", more=(*QUICK, "--fresh")))
    found = entries(data)
    assert list(found) == [f"a-{old[:16]}", "a"]
    rows = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("| ")]
    assert [row.rstrip("*") for row in rows[1:]] == [f"A ({name})" for name in found]
    text = (data / "per_tag.csv").read_text()
    assert all(f"A ({name})" in text for name in found)
    assert found[f"a-{old[:16]}"]["per_tag"] == entries(ran)["a"]["per_tag"]
    assert found["a"]["per_tag"] != entries(ran)["a"]["per_tag"]
    assert state(aside) == before
    # The file of the model's own scores is no row beside it, nor is one twice.
    refused(validate(data, data / "a.toml", data / "a_predictions.pt"), "names a twice")
    refused(validate(data, elsewhere, f"/{elsewhere}"), "names a twice")
    refused(validate(data, data / "a.toml", aside, elsewhere), f"names a-{old[:16]} twice")
    make_onnx(data / "a.onnx", len(TAGS), seed=0)
    refused(validate(data, data / "a.toml", data / "a_predictions.pt"), "scores are kept in")
    refused(validate(data, data / "a.toml", aside), "a's present weights")
    refused(validate(data, data / "a.toml", elsewhere), "names a twice")
    assert state(aside) == before


def test_two_cards_of_one_name_are_two_rows(tmp_path: Path, ran: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(ran, data)
    (data / "other").mkdir()
    other = data / "other" / "a.toml"
    other.write_text((data / "a.toml").read_text().replace("a.onnx", "b.onnx"))
    ended = ok(validate(data, data / "a.toml", other))
    assert to_run(ended) == [0, 40]
    first, second = entries(data)
    alone = ok(validate(data, other))
    assert to_run(alone) == [0]  # It finds its scores, and the first's are put aside.
    fingerprint = entries(data)["a"]["fingerprint"]
    assert (first, second) == ("a", f"a-{fingerprint[:16]}")
    assert to_run(ok(validate(data, data / "a.toml"))) == [0]
    (data / "same").mkdir()
    same = shutil.copy(data / "a.toml", data / "same")
    refused(validate(data, data / "a.toml", same), "names a twice")


def test_a_card_whose_weights_are_gone_is_scored_by_its_file(
    tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(ran, data)
    (data / "a.onnx").unlink()
    before = state(data / "a_predictions.pt")
    ended = ok(validate(data, data / "a.toml", data / "b.toml", more=(*QUICK, "--fresh")))
    assert f"A is scored with the 40 posts of {data / 'a_predictions.pt'}" in ended.err
    assert "a.onnx is missing" in ended.err
    assert entries(data)["a"]["per_tag"] == entries(ran)["a"]["per_tag"]
    assert state(data / "a_predictions.pt") == before
    # The same of the hub, out of reach.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    card = (data / "a.toml").read_text()
    (data / "a.toml").write_text(card.replace('source = "."', 'source = "x/y"\nrevision = "v"'))
    ended = ok(validate(data, data / "a.toml"))
    assert "A is scored with the 40 posts" in ended.err and "HF_HUB_OFFLINE" in ended.err
    (data / "a_predictions.pt").unlink()
    refused(validate(data, data / "a.toml"), "HF_HUB_OFFLINE")


def test_a_shared_arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody publishes posts and predictions; somebody else has one new model."""
    drawings.make_site(tmp_path / "site", count=24, seed=2)
    first, second = tmp_path / "first", tmp_path / "second"
    published = tmp_path / "hub" / "datasets" / "org" / "arena"
    published.mkdir(parents=True)
    with serve(tmp_path / "site", tmp_path / "hub") as server:
        point(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        fetch = ("--url", server.url, "--api-interval", 0)
        for data in (first, second):
            data.mkdir()
        ok(call("download.py", "--data", first, *fetch))
        ok(call("trainable.py", "--data", first, "--workers", 1))
        posts = [json.loads(line) for line in (first / "posts.jsonl").read_text().splitlines()]
        tags = sorted({tag for post in posts for tag in post["tag_string"].split()})
        for seed, name in enumerate(("a", "b", "new")):
            make_model(first, name, tags, seed=seed, card={"label": name})
        cards = [first / f"{name}.toml" for name in ("new", "a", "b")]
        ok(validate(first, *cards))
        for name in "ab":
            shutil.copy(first / f"{name}_predictions.pt", published)
        listed = shutil.copy(first / "validation_post_ids.txt", tmp_path)
        for path in first.glob("new.*"):
            shutil.copy(path, second)
        # What the README says.
        ok(call("download.py", "--data", second, "--post-ids", listed, *fetch))
        shutil.copytree(first / "resized", second / "resized")  # As trainable.py makes them.
        more = (*QUICK, "--post-ids", listed)
        ended = ok(validate(second, second / "new.toml", "datasets/org/arena", more=more))
        assert len(to_run(ended)) == 1
        for name, model in entries(first).items():
            assert_alike(entries(second)[name]["per_tag"], model["per_tag"])
        one = "datasets/org/arena/b_predictions.pt"
        ok(validate(second, one, "datasets/org/arena/a_predictions.pt@v1.0", more=more))
        assert list(entries(second)) == ["b", "a"]
        refused(validate(second, one + "@v9"), "datasets/org/arena", "no revision v9")
        refused(validate(second, "datasets/org/none"), "datasets/org/none")
        (published / "a_predictions.pt").rename(published / "a.pt")
        (published / "b_predictions.pt").rename(published / "b.pt")
        refused(validate(second, "datasets/org/arena"), "no file whose name ends")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        ok(validate(second, one, more=more))
    huggingface_hub.close_session()


def nan(held: dict[str, Any]) -> None:
    held["predictions"][3, 2] = np.nan


Change = Callable[[dict[str, Any]], Any]


class Copied:
    """Numbers that torch is to copy, as what `held` has in them is one number again and again."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.numbers = torch.zeros(1).expand(held["predictions"].shape)

    def __reduce__(self) -> tuple[Any, ...]:
        copied = torch._utils._rebuild_device_tensor_from_cpu_tensor
        return copied, (self.numbers, torch.float32, "cpu", False)


HOSTILE: dict[str, tuple[Change, str]] = {
    "NaN": (nan, "not from 0 to 1"),
    "above 1": (lambda held: held["predictions"].fill(1.5), "not from 0 to 1"),
    "no tags": (lambda held: held.pop("tags"), "no 'tags'"),
    "no scores": (lambda held: held.pop("predictions"), "no 'predictions'"),
    "scores in double precision": (
        lambda held: held.update(predictions=held["predictions"].astype(np.float64)),
        "'predictions' must be a tensor of float32 or float16",
    ),
    "an infinite score in half precision": (
        lambda held: held.update(predictions=np.full((40, 12), np.inf, np.float16)),
        "not from 0 to 1",
    ),
    "scores that are a list": (lambda held: held.update(predictions=[[0.5]]), "'predictions'"),
    "a number that claims rows": (
        lambda held: held.update(predictions=torch.zeros(1).expand(10**9, 12)),
        "'predictions'",
    ),
    "no numbers at all": (
        lambda held: held.update(predictions=torch.zeros(1, device="meta").expand(40, 12)),
        "not a predictions file",
    ),
    "numbers that are copied": (
        lambda held: held.update(predictions=Copied(held)),
        "not a predictions file",
    ),
    "sparse": (
        lambda held: held.update(predictions=torch.from_numpy(held["predictions"]).to_sparse()),
        "not a predictions file",
    ),
    "no posts": (
        lambda held: held.update(
            predictions=np.zeros((0, 12), np.float32), post_ids=np.zeros(0, np.int64)
        ),
        "not empty",
    ),
    "ids short of rows": (
        lambda held: held.update(post_ids=held["post_ids"][:-1].copy()),
        "39 post ids",
    ),
    "an id twice": (lambda held: held["post_ids"].fill(7), "each once"),
    "ids that are float": (
        lambda held: held.update(post_ids=held["post_ids"].astype(np.float64)),
        "'post_ids' must be",
    ),
    "more tags": (lambda held: held["tags"].append("x"), "one tag for each"),
    "many tags": (lambda held: held.update(tags=["x"] * 10**5), "one tag for each"),
    "tags of bytes": (lambda held: held.update(tags=[b"x"] * 12), "'tags' must be"),
    "a long tag": (lambda held: held.update(tags=["x" * 10**6] * 12), "'tags' must be"),
    "tags without end": (
        lambda held: held.update(tags=[f"{n:0200}" for n in range(100_000)]),
        "bytes of tags",
    ),
    "thresholds of another length": (
        lambda held: held.update(threshold=[0.5] * 11),
        "'threshold' must be",
    ),
    "a threshold above 1": (lambda held: held.update(threshold=1.5), "'threshold' must be"),
    "a threshold that is true": (lambda held: held.update(threshold=True), "'threshold'"),
    "no threshold for a tag": (
        lambda held: held.update(threshold=[float("nan")] * 12),
        "'threshold' must have a number",
    ),
    "a label to the terminal": (lambda held: held.update(label="\x1b[2J"), "'label' must be"),
    "a long label": (lambda held: held.update(label="x" * 10**5), "'label' must be"),
    "categories of numbers": (
        lambda held: held.update(categories=[4] * 12),
        "'categories' must be",
    ),
    "a cutoff that is text": (lambda held: held.update(last_post_id="x"), "'last_post_id'"),
    "a cutoff beyond int64": (lambda held: held.update(last_post_id=2**70), "'last_post_id'"),
    "a range upside down": (lambda held: held.update(held_out=[9, 1]), "'held_out' must be"),
    "a fingerprint": (lambda held: held.update(fingerprint="../x"), "'fingerprint' must be"),
    "weights": (lambda held: held.update(weights={"\n": "x"}), "'weights' must be"),
    "images": (lambda held: held.update(images=held["images"][:5].copy()), "'images' must be"),
    "speed": (lambda held: held.update(speed=[{}]), "'speed' must be"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(tmp_path: Path, ran: Path, name: str) -> None:
    change, words = HOSTILE[name]
    held = saved(ran, "a")
    change(held)
    path = write(tmp_path / "a_predictions.pt", held)
    with pytest.raises(UserError) as ended:
        given.read(path, mappings(DataFolder(ran)))
    line = str(ended.value)
    assert words in line and str(path) in line
    assert line.isprintable() and len(line) < 400 + len(str(path))


def test_files_that_are_none(tmp_path: Path, ran: Path) -> None:
    whole = (ran / "a_predictions.pt").read_bytes()
    path = tmp_path / "x_predictions.pt"
    refused(validate(ran, path), "there is no file")
    contents = {
        b"": "not a predictions file",
        whole[: len(whole) // 2]: "not a predictions file",
        b"version https://git-lfs.github.com/spec/v1\n": "pointer of Git LFS",
    }
    for content, words in contents.items():
        path.write_bytes(content)
        refused(validate(ran, path), words, str(path))
    torch.save([1, 2], path)
    refused(validate(ran, path), "not a predictions file")
    torch.save({"predictions": Path("x")}, path)  # What weights_only does not load.
    refused(validate(ran, path), "not a predictions file")
    torch.save({}, path, _use_new_zipfile_serialization=False)
    refused(validate(ran, path), "not a predictions file")


def archive(path: Path, whole: Path, change: Callable[[str, bytes], bytes], packing: int) -> None:
    """A copy of a predictions file, each file within it changed."""
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(path, "w", packing) as written:
        for entry in read.infolist():
            written.writestr(entry.filename, change(entry.filename, read.read(entry)))


# bytearray(2**31 - 1), as a pickle.
LARGE = b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."
ARCHIVES: dict[str, tuple[Callable[[str, bytes], bytes], int, str]] = {
    "a packed one": (
        lambda name, content: content + bytes(2**22 * name.endswith("pkl")),
        zipfile.ZIP_DEFLATED,
        "says it holds more than",
    ),
    "cut numbers": (
        lambda name, content: content[:40] if name.endswith("data/0") else content,
        zipfile.ZIP_STORED,
        "'predictions' must be|not a whole one",
    ),
    "a large array from a number": (
        lambda name, content: LARGE if name.endswith("pkl") else content,
        zipfile.ZIP_STORED,
        "not a predictions file",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_claim_more_than_they_are(tmp_path: Path, ran: Path, name: str) -> None:
    change, packing, words = ARCHIVES[name]
    path = tmp_path / "x_predictions.pt"
    archive(path, ran / "a_predictions.pt", change, packing)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=words):
        given.read(path, mappings(DataFolder(ran)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # Kilobytes.


def of_tuples(levels: int) -> bytes:
    """A pickle of a dict whose key is a tuple of a tuple twice, of so many levels."""
    inner = b"".join(b"h%ch%c\x86q%c" % (level, level, level + 1) for level in range(levels))
    return b"\x80\x02)q\x00" + inner + b"}h%cNs." % levels


# The first takes torch a minute; the second, of 500 bytes, would never end.
LONG_WORK = {
    "many opcodes": b"\x80\x02" + b"]" * 8_000_000 + b".",
    "tuples of tuples": of_tuples(60),
    "a long text again and again": b"\x80\x02X" + (2**20).to_bytes(4, "little") + b"x" * 2**20
    + b"q\x00" + b"c_codecs\nencode\nh\x00\x85R" * 1000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", LONG_WORK)
def test_a_pickle_of_much_work_is_refused_before_torch_reads_it(
    tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "x_predictions.pt"
    archive(
        path,
        ran / "a_predictions.pt",
        lambda within, content: LONG_WORK[name] if within.endswith("pkl") else content,
        zipfile.ZIP_STORED,
    )
    genops, counted, loaded = pickletools.genops, [0], []

    def counting(pickled: bytes) -> Iterator[Any]:
        for step in genops(pickled):
            counted[0] += 1
            yield step

    monkeypatch.setattr(pickletools, "genops", counting)
    monkeypatch.setattr(torch, "load", lambda *args, **options: loaded.append(args))
    with pytest.raises(UserError, match="more than 1048576 steps to read") as ended:
        given.read(path, mappings(DataFolder(ran)))
    assert str(path) in str(ended.value) and str(ended.value).isprintable()
    assert 0 < counted[0] <= given.MOST_WORK + 1 and not loaded


def two_in_one(path: Path, whole: Path, pickled: bytes) -> None:
    """An archive with another pickle for torch, which goes by where the list of its files is said
    to begin, than for Python, which goes by where it ends."""
    parts = []
    for content in (None, pickled):

        def change(name: str, held: bytes, new: bytes | None = content) -> bytes:
            return new if new and name.endswith("pkl") else held

        archive(path, whole, change, zipfile.ZIP_STORED)
        written = path.read_bytes()
        end = written.rfind(b"PK\x05\x06")
        size, start = struct.unpack("<II", written[end + 12 : end + 20])
        parts.append((written[:start], written[start : start + size], written[end:]))
    (files, listed, last), (others, others_listed, _) = parts
    others = others.ljust(len(files), b"\0")
    last = last[:16] + struct.pack("<I", len(others)) + last[20:]
    path.write_bytes(others + others_listed + files + listed + last)


def test_a_pickle_of_much_work_is_found_wherever_torch_does(tmp_path: Path, ran: Path) -> None:
    hidden, whole = of_tuples(60), ran / "a_predictions.pt"
    renamed, doubled = tmp_path / "renamed_predictions.pt", tmp_path / "doubled_predictions.pt"
    archive(
        renamed,
        whole,
        lambda name, content: hidden if name.endswith("pkl") else content,
        zipfile.ZIP_STORED,
    )
    renamed.write_bytes(renamed.read_bytes().replace(b"/data.pkl", b"/DATA.PKL"))
    two_in_one(doubled, whole, hidden)
    with zipfile.ZipFile(whole) as one, zipfile.ZipFile(doubled) as other:
        assert other.read("archive/data.pkl") == one.read("archive/data.pkl")
    for path in (renamed, doubled):
        with pytest.raises(UserError, match="more than 1048576 steps to read"):
            given.read(path, mappings(DataFolder(ran)))


@pytest.mark.parametrize(
    "pickled", [b"", b"\xff" * 2**21, b"\x80\x02\x86.", b"\x80\x02h\x05.", b"\x80\x02tu."]
)
def test_pickles_that_are_none(tmp_path: Path, ran: Path, pickled: bytes) -> None:
    path = tmp_path / "x_predictions.pt"
    archive(
        path,
        ran / "a_predictions.pt",
        lambda name, content: pickled if name.endswith("pkl") else content,
        zipfile.ZIP_STORED,
    )
    with pytest.raises(UserError, match="not a predictions file"):
        given.read(path, mappings(DataFolder(ran)))


def test_as_many_tags_as_any_model_has_are_read(tmp_path: Path) -> None:
    count = 100_000
    held = {
        "predictions": np.full((2, count), 0.5, np.float32),
        "post_ids": np.array([5, 6]),
        "tags": [f"a_tag_of_some_length_{number}" for number in range(count)],
        "categories": ["general", "character"] * (count // 2),
        "threshold": [number / count for number in range(count)],
    }
    path = write(tmp_path / "x_predictions.pt", held)
    make_data(tmp_path, 1)
    assert len(given.read(path, mappings(DataFolder(tmp_path))).tags) == count
