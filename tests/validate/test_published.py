"""The cards of published taggers, run on tiny networks with files in the published forms.

What must come out is worked out with Pillow and NumPy from what the authors' programs do, not from
the cards.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from demo.server import serve
from demo.tiny import make_data, make_onnx
from models.card import card
from tests.helpers import ROOT, Ended, run
from tests.validate.helpers import QUICK, ok, saved

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from PIL.Image import Resampling

pytestmark = pytest.mark.slow

REAL = ROOT / "tests" / "real"
FORMS = REAL / "forms"
SIZES = [(30, 71), (80, 41), (896, 500), (333, 900), (1024, 700)]
Array = np.ndarray[Any, Any]
Picture = Image.Image

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALF = ([0.5] * 3, [0.5] * 3)
WHITE = (255, 255, 255)


def placed(picture: Picture, side: int, color: tuple[int, int, int]) -> Picture:
    """A picture in the middle of a square."""
    square = Image.new("RGB", (side, side), color)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def fitted(
    picture: Picture, side: int, how: Resampling, color: tuple[int, int, int] = WHITE
) -> Picture:
    """A picture as large as fits into a square, in the middle of it."""
    scale = min(side / picture.width, side / picture.height)
    size = int(picture.width * scale), int(picture.height * scale)
    return placed(picture.resize(size, how), side, color)


def wd(picture: Picture) -> Array:
    square = np.asarray(placed(picture, max(448, *picture.size), WHITE), np.float64)
    if len(square) == 896:  # OpenCV's area averaging to a half: 2 x 2 pixels, halves to even.
        square = np.rint(square.reshape(448, 2, 448, 2, 3).mean(axis=(1, 3)))
    return square[:, :, ::-1]


def normal(picture: Picture, constants: tuple[list[float], list[float]]) -> Array:
    mean, std = constants
    return (np.asarray(picture, np.float64) / 255 - mean) / std


def animetimm(size: int, constants: Any) -> Callable[[Picture], Array]:
    def steps(picture: Picture) -> Array:
        square = fitted(picture, 512, Resampling.BILINEAR)
        return normal(square.resize((size, size), Resampling.BICUBIC), constants)

    return steps


def stretched(size: int, how: Resampling) -> Callable[[Picture], Array]:
    return lambda picture: normal(picture.resize((size, size), how), HALF)


def plain(picture: Picture) -> Array:
    return np.asarray(picture.resize((448, 448), Resampling.BILINEAR), np.float64) / 255


def deep(picture: Picture) -> Array:
    """Of a picture whose longer side is twice as long as wanted."""
    square = np.asarray(placed(picture, max(picture.size), (0, 0, 0)), np.float64)
    halved: Array = np.rint(square.reshape(512, 2, 512, 2, 3).mean(axis=(1, 3)))
    return halved / 255


def cl(picture: Picture) -> Array:
    square = placed(picture, max(picture.size), WHITE)
    return normal(square.resize((448, 448), Resampling.BICUBIC), HALF)[:, :, ::-1]


def black(picture: Picture) -> Array:
    return normal(fitted(picture, 1008, Resampling.BILINEAR, (0, 0, 0)), HALF)


def camie(picture: Picture) -> Array:
    return normal(fitted(picture, 512, Resampling.LANCZOS, (124, 116, 104)), IMAGENET)


def oppai(picture: Picture) -> Array:
    return normal(fitted(picture, 448, Resampling.LANCZOS, (114, 114, 114)), HALF)


def indices(kind: str) -> str:
    """Camie's and CL Tagger v2's form of a tags file."""
    categories = {"1girl": "general", "rating_general": "rating", f"some_{kind}": kind}
    names = list(categories)
    found: dict[str, Any] = {
        "idx_to_tag": {str(number): name for number, name in enumerate(names)},
        "tag_to_idx": {name: number for number, name in enumerate(names)},
        "tag_to_category": categories,
    }
    if kind == "year":
        found = {"model_info": {"img_size": 512}, "dataset_info": {"tag_mapping": found}}
    return json.dumps(found)


class Published(NamedTuple):
    """A tagger as it is published: its tags, its steps, how its outputs are made of sums."""

    tags: str
    steps: Callable[[Picture], Array]
    outputs: dict[str, str]
    layout: str = "nchw"
    mask: bool = False
    preprocess: str = ""  # The text of its preprocess.json.
    size: int = 0  # Of its images, where that file says it.


V14 = (REAL / "wd" / "wd-v1-4.selected_tags.head.csv").read_text()
V3 = (REAL / "wd" / "wd-v3.selected_tags.head.csv").read_text()
INFO = (
    'tag_id,name,category,count,aliases\n470575,1girl,0,9,"[""1girls""]"\n9999999,general,9,5,[]\n'
)
TIMM = (FORMS / "animetimm.csv").read_text()
NO_CATEGORIES = "name,real_name\n1girl,1girl\n" + "".join(f"tag_{n},tag_{n}\n" for n in range(9))
THREE = {"embedding": "Embedding", "logits": "Identity", "prediction": "Sigmoid"}
SCORES, LOGITS = {"output": "Sigmoid"}, {"logits": "Identity"}
REFINED = {"initial_predictions": "Neg", "refined_predictions": "Identity"}


def timm(size: int, constants: tuple[list[float], list[float]]) -> Published:
    """One of animetimm's taggers: its preprocess.json names size, mean and std."""
    found = json.loads((FORMS / "preprocess.json").read_text())
    for step in found["test"]:
        if step["type"] == "resize":
            step["size"] = size
        elif step["type"] == "center_crop":
            step["size"] = [size, size]
        elif step["type"] == "normalize":
            step["mean"], step["std"] = constants
    return Published(
        TIMM, animetimm(size, constants), THREE, preprocess=json.dumps(found), size=size
    )


FAMILIES = {
    "wd-v1-4-swinv2-tagger-v2": Published(V14, wd, {"predictions_sigmoid": "Sigmoid"}, "nhwc"),
    "wd-vit-large-tagger-v3": Published(V3, wd, SCORES, "nhwc"),
    "wd-eva02-large-tagger-v3-embeddings": Published(
        INFO, wd, {"embedding": "Embedding", "output": "Sigmoid"}, "nhwc"
    ),
    "animetimm-caformer-b36": timm(384, IMAGENET),
    "animetimm-eva02-large": timm(448, CLIP),
    "animetimm-resnet50": timm(256, IMAGENET),
    "pixai-tagger-v0.9": Published(
        (FORMS / "pixai09.csv").read_text(), stretched(448, Resampling.BILINEAR), THREE
    ),
    "pixai-tagger-v1.0": Published((FORMS / "pixai10_tags.json").read_text(), black, LOGITS),
    "cl-tagger-1.02": Published((FORMS / "tag_mapping.json").read_text(), cl, LOGITS),
    "cl-tagger-v2": Published(indices("quality"), stretched(384, Resampling.BICUBIC), LOGITS),
    "camie-tagger-v2": Published(indices("year"), camie, {**REFINED, "selected": "Cast"}),
    "oppai-oracle-v1.1": Published(
        (FORMS / "oppai.csv").read_text(), oppai, {"probabilities": "Sigmoid"}, mask=True
    ),
    "ml-danbooru": Published(NO_CATEGORIES, plain, LOGITS),
    "deepdanbooru": Published(
        "name,real_name,category\n1girl,1girl,0\nrating:safe,rating:safe,9\n",
        deep,
        {"activation_172": "Sigmoid"},
        "nhwc",
    ),
}


def count(tags: str) -> int:
    """How many outputs a tags file of any of these forms stands for."""
    if not tags.startswith("{"):
        return len(list(csv.DictReader(tags.splitlines())))
    found = json.loads(tags)
    found = found.get("dataset_info", {"tag_mapping": found})["tag_mapping"]
    return int(found.get("num_classes", len(found.get("idx_to_tag", found))))


def make_network(path: Path, size: int, tagger: Published) -> tuple[Array, Array]:
    """A tiny network with a tagger's inputs and outputs, its map and its bias."""
    tags = count(tagger.tags)
    weight, bias = make_onnx(path, tags, layout=tagger.layout, size=size, logits=True)
    network = onnx.load(path)
    graph = network.graph
    if (
        tagger.layout == "nhwc" and tagger.steps is wd
    ):  # From 0 to 255, which would make every score 0 or 1.
        weight /= 255
        graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))
    graph.node[-1].output[0] = "sums"
    del graph.output[:]
    if tagger.mask:  # What is marked as padding counts, for the test to see it.
        graph.input.append(
            helper.make_tensor_value_info("padding_mask", TensorProto.BOOL, ["n", size, size])
        )
        graph.node[-1].output[0] = "plain"
        graph.node.extend(
            [
                helper.make_node("Cast", ["padding_mask"], ["marked"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", ["marked"], ["deep"], axes=[1, 2]),
                helper.make_node("Squeeze", ["deep", "last"], ["share"]),
                helper.make_node("Add", ["plain", "share"], ["sums"]),
            ]
        )
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "last"))
    for name, kind in tagger.outputs.items():
        given = "flat" if kind == "Embedding" else "sums"
        options: dict[str, Any] = {"to": TensorProto.INT64} if kind == "Cast" else {}
        made = "Identity" if kind == "Embedding" else kind
        graph.node.append(helper.make_node(made, [given], [name], **options))
        element = TensorProto.INT64 if kind == "Cast" else TensorProto.FLOAT
        width = 48 if kind == "Embedding" else tags
        graph.output.append(helper.make_tensor_value_info(name, element, ["n", width]))
    onnx.save(network, path)
    return weight, bias


class Ran(NamedTuple):
    data: Path
    ended: Ended
    maps: dict[str, tuple[Array, Array]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All of them on a stand-in hub, run by their names at once."""
    folder = tmp_path_factory.mktemp("published")
    data = folder / "data"
    posts = make_data(data, len(SIZES))
    rng = np.random.default_rng(5)
    for post, size in zip(posts, SIZES, strict=True):
        blocks = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize(size, Resampling.BICUBIC)
        picture.save(data / "resized" / f"{post['id']}.webp", quality=80)
        post["tag_string"] = post["tag_string_general"] = "1girl"
    (data / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    maps = {}
    for name, tagger in FAMILIES.items():
        model = card(name)
        repository = folder / "hub" / model.source
        lists = folder / "hub" / (model.tags_source or model.source)
        for file in (repository / model.file, lists / model.tags):
            file.parent.mkdir(parents=True, exist_ok=True)
        side = tagger.size or model.image.size
        maps[name] = make_network(repository / model.file, side, tagger)
        (lists / model.tags).write_text(tagger.tags)
        if tagger.preprocess:
            (repository / str(model.preprocess)).write_text(tagger.preprocess)
        (repository / ".revisions").write_text(str(model.revision))
        (lists / ".revisions").write_text(str(model.tags_revision or model.revision))
    with serve(hub=folder / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "cache")}
        names = ",".join(FAMILIES)
        ended = run("validate.py", "--data", data, "--models", names, *QUICK, env=env)
    yield Ran(data, ok(ended), maps)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_those_of_the_authors_steps(name: str, ran: Ran) -> None:
    tagger, (weight, bias) = FAMILIES[name], ran.maps[name]
    found = saved(ran.data, name)
    assert len(found["post_ids"]) == len(SIZES)
    for post_id, scores in zip(found["post_ids"], found["predictions"], strict=True):
        with Image.open(ran.data / "resized" / f"{post_id}.webp") as opened:
            picture = opened.convert("RGB")
        # Area averaging by other ratios than these has tests of its own.
        if tagger.steps is wd and max(picture.size) not in (71, 80, 896):
            continue
        if tagger.steps is deep and max(picture.size) != 1024:
            continue
        ready = tagger.steps(picture)
        cell = len(ready) // 4
        grid = ready.reshape(4, cell, 4, cell, 3).mean(axis=(1, 3))
        sums = grid.transpose(2, 0, 1).ravel() @ weight + bias
        if tagger.mask:
            scale = len(ready) / max(picture.size)
            sides = [int(side * scale) for side in picture.size]
            sums += 1 - sides[0] * sides[1] / len(ready) ** 2
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-sums)), atol=1e-5)


def test_thresholds_are_those_of_the_cards(ran: Ran) -> None:
    results = json.loads((ran.data / "metrics.json").read_text())
    assert results["tag_names"] == ["1girl"]
    told = {model["name"]: model["threshold"] for model in results["models"]}
    assert told["pixai-tagger-v1.0"]["style"] == 0.15
    assert told["animetimm-caformer-b36"] == "best_threshold"
    assert told["cl-tagger-1.02"]["other"] == 0.55
    unknown = {model["name"] for model in results["models"] if model["last_post_id"] is None}
    sure = ("wd", "camie", "pixai-tagger-v0.9", "ml-", "deep")
    assert unknown == {name for name in FAMILIES if not name.startswith(sure)}
