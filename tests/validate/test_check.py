"""--check: every setting planted wrong is found, and right ones are left alone."""

import json
import tempfile
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model
from tests.helpers import Ended, call, refused
from tests.validate.helpers import TAGS, ok, saved, validate

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.slow

TRUE: dict[str, Any] = {
    "channels": "rgb",
    "pad": "square",
    "resize": "bicubic",
    "scale": "1/255",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def curved(path: Path) -> None:
    """Make a network that is a linear map depend on the size of its input as well."""
    network = onnx.load(path)
    gemm = next(node for node in network.graph.node if node.op_type == "Gemm")
    gemm.input[0] = "curved"
    place = list(network.graph.node).index(gemm)
    network.graph.node.insert(place, onnx.helper.make_node("Tanh", ["flat"], ["curved"]))
    onnx.save(network, path)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose posts carry the tags that a tagger with the settings above finds."""
    data = tmp_path_factory.mktemp("labelled")
    posts = make_data(data, 120)
    network = {"logits": True, "layout": "nhwc"}
    card = make_model(data, "true", TAGS, card={"activation": "sigmoid"}, image=TRUE, **network)
    curved(data / "true.onnx")
    ok(validate(data, card))
    found = saved(data, "true")
    high = found["predictions"] >= np.quantile(found["predictions"], 0.7, axis=0)
    tags_of = {
        post_id: " ".join(tag for tag, has in zip(TAGS, row, strict=True) if has) or "solo"
        for post_id, row in zip(found["post_ids"].tolist(), high, strict=True)
    }
    for post in posts:
        post["tag_string"] = tags_of[post["id"]]
    (data / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    return data


def check(data: Path, name: str, tags: list[str] = TAGS, **image: Any) -> Ended:
    card = make_model(
        data,
        name,
        tags,
        card={"activation": "sigmoid"},
        image=TRUE | image,
        logits=True,
        layout="nhwc",
    )
    curved(data / f"{name}.onnx")
    return ok(call("validate.py", "--data", data, "--check", card, "--batch-size", 32))


def test_right_settings_are_left_alone(labelled: Path) -> None:
    ended = check(labelled, "right")
    assert "right is fed as well as by any of these" in ended.out
    assert "| as the card says " in ended.out and "activation" not in ended.out


@pytest.mark.parametrize(
    ("name", "wrong", "better"),
    [
        ("channels", {"channels": "bgr"}, 'channels = "rgb"'),
        ("stretched", {"pad": "stretch"}, 'pad = "square"'),
        ("whole", {"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}, "pixels from -1 to 1"),
        ("black", {"color": [0, 0, 0]}, "color = [255, 255, 255]"),
    ],
)
def test_a_setting_planted_wrong_is_found(
    labelled: Path, name: str, wrong: dict[str, Any], better: str
) -> None:
    ended = check(labelled, name, **wrong)
    assert f"{name} looks wrongly fed: with {better} its average precision" in ended.out


@pytest.mark.parametrize("shift", [1, -1])
def test_tags_off_by_one_are_found(labelled: Path, shift: int) -> None:
    ended = check(labelled, f"shifted{shift}", tags=[*np.roll(TAGS, shift).tolist()])
    side = "earlier" if shift == 1 else "later"
    assert f"with tags one line {side} its average precision" in ended.out


def test_an_activation_that_does_not_fit_is_said(labelled: Path) -> None:
    card = make_model(labelled, "scores", TAGS, card={"activation": "sigmoid"}, image=TRUE)
    ended = ok(call("validate.py", "--data", labelled, "--check", card))
    assert 'activation = "sigmoid" looks wrong' in ended.out and '"none"' in ended.out


def test_too_few_tags_to_tell(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    card = make_model(tmp_path, "odd", [f"no_{n}" for n in range(12)])
    refused(call("validate.py", "--data", tmp_path, "--check", card), "0 of odd's tags", "'tags'")


def test_a_data_folder_that_cannot_be_written_to_will_do(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tempfile.TemporaryFile

    def elsewhere(*, dir: Path) -> Any:
        if dir == labelled:
            raise PermissionError(13, "Permission denied")
        return made(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", elsewhere)
    assert "is fed as well as by any" in check(labelled, "right").out
