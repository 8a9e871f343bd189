"""JoyTag's published config.json and top_tags.txt as they are, with random tensors of the published
names and shapes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from demo.server import serve
from demo.tiny import make_data
from models import card as cards
from models import joytag
from tests.helpers import ROOT, run

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

REAL = ROOT / "tests" / "real" / "joytag"


def real_shapes() -> dict[str, list[int]]:
    """Names and shapes of the published tensors."""
    rows = [line.split("\t") for line in (REAL / "tensors.tsv").read_text().splitlines()]
    return {name: json.loads(shape) for name, _, shape in rows}


@pytest.fixture(scope="module")
def real_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hub with JoyTag's published files, but random weights: 366 MB, gone after the tests."""
    hub = tmp_path_factory.mktemp("hub")
    folder = hub / "fancyfeast" / "joytag"
    folder.mkdir(parents=True)
    for name in ("config.json", "top_tags.txt"):
        shutil.copy(REAL / name, folder)
    (folder / ".revisions").write_text(f"main {cards.card('joytag').revision}\n")
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in real_shapes().items():
        # Around 1 for scales (and biases), else nothing of the image would get through.
        weights[name] = 0.05 * torch.randn(shape, generator=random) + (len(shape) == 1)
    save_file(weights, folder / "model.safetensors")
    yield hub
    shutil.rmtree(hub)


@pytest.mark.slow
def test_the_published_layout(real_hub: Path) -> None:
    folder = real_hub / "fancyfeast" / "joytag"
    net = joytag.load(folder)
    tags = (folder / "top_tags.txt").read_text().splitlines()
    shapes = real_shapes()
    assert (len(tags), len(shapes), shapes["head.bias"]) == (5813, 190, [5822])
    assert sum(value.numel() for value in net.state_dict().values()) == 91_491_509
    shapes |= {"head.weight": [5813, 768], "head.bias": [5813]}
    assert {name: list(value.shape) for name, value in net.state_dict().items()} == shapes
    with safe_open(folder / "model.safetensors", framework="pt") as published:
        for name in ("head.weight", "head.bias", "patch_embeddings.conv.12.weight"):
            held = net.state_dict()[name]
            assert torch.equal(held, published.get_tensor(name)[: len(held)])


@pytest.mark.slow
def test_the_published_layout_through_validate(tmp_path: Path, real_hub: Path) -> None:
    tags = (REAL / "top_tags.txt").read_text().splitlines()
    posts = make_data(tmp_path, 2)
    for number, post in enumerate(posts):
        post["tag_string"] = post["tag_string_general"] = " ".join(tags[number : number + 5])
    lines = "".join(f"{json.dumps(post)}\n" for post in posts)
    (tmp_path / "posts.jsonl").write_text(lines)
    args = ("--data", tmp_path, "--models", "joytag", "--bootstrap", 0, "--min-count", 1)
    with serve(hub=real_hub) as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(real_hub / "cache")}
        ended = run("validate.py", *args, env=env)
        assert ended.code == 0, ended.err
        held = torch.load(tmp_path / "joytag_predictions.pt", weights_only=True)
        assert held["predictions"].shape == (2, 5813) and held["tags"] == tags
        assert (held["predictions"][0] - held["predictions"][1]).std() > 0.001
        (revision,) = (real_hub / "cache").rglob("snapshots/*")
        assert revision.name == cards.card("joytag").revision
