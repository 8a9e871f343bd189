"""Cards of timm's networks, with a stand-in for the library: it may be absent."""

import contextlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from arena.cli import UserError
from arena.data_folder import DataFolder
from danbooru_metadata import TagMappings
from demo.tiny import make_data
from models.tagger import CardTagger, tagger
from models.timm import arguments
from tests.helpers import refused
from tests.models.timm_files import CONFIG, MEAN, SIZE, STD, make_timm
from tests.validate.helpers import TAGS, ok, saved, to_run, validate

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CPU = torch.device("cpu")
PATH = Path("config.json")


class Tiny(nn.Module):
    """A network with all that timm's have: weights, counters, indices, a table not in the file."""

    def __init__(self, embed_dim: int, num_classes: int, img_size: int, **_: Any) -> None:
        super().__init__()
        self.img_size, self.num_classes = img_size, num_classes
        self.embed = nn.Conv2d(3, embed_dim, 8, stride=8)
        self.norm = nn.BatchNorm2d(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        self.register_buffer("index", torch.arange(num_classes).flip(0))
        self.register_buffer("table", torch.linspace(1, 2, embed_dim), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        assert images.shape[2] == self.img_size, "the images have another size"
        features = self.norm(self.embed(images)).relu().mean((2, 3))
        logits: Tensor = self.head(features * self.table)[:, self.index]
        return logits


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A library with one architecture; `asked` are the arguments of every network it made."""

    def create_model(model_name: str, **given: Any) -> nn.Module:
        library.asked.append(given)
        assert given.pop("pretrained") is False and given.pop("pretrained_cfg")
        return Tiny(**given)

    library = SimpleNamespace(__version__="1.0", create_model=create_model, asked=[])
    library.is_model = lambda name: name.startswith("tiny")
    monkeypatch.setitem(sys.modules, "timm", library)
    return library


def made(seed: int = 0) -> Tiny:
    """A network with random weights, as it would be after training."""
    torch.manual_seed(seed)
    net = Tiny(16, len(TAGS), SIZE).eval()
    for value in net.state_dict().values():
        if value.is_floating_point():
            value += 0.3 * torch.rand_like(value)
    return net


def opened(card: Path, folder: Path) -> CardTagger:
    return tagger(str(card), DataFolder(folder), TagMappings(folder / "metadata"))


def error_of(folder: Path, net: nn.Module, **files: Any) -> str:
    make_data(folder, 1)
    with pytest.raises(UserError) as error:
        opened(make_timm(folder, net, **files), folder).open(CPU, "float32")
    text = str(error.value)
    assert "\n" not in text and len(text) < 500 + 3 * len(str(folder))
    return text


def test_a_run_scores_as_the_network_does(tmp_path: Path, timm: SimpleNamespace) -> None:
    posts = make_data(tmp_path, 6)
    net = made()
    card = make_timm(tmp_path, net)
    ok(validate(tmp_path, card))
    held = saved(tmp_path, "timm")
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    for number, post in enumerate(posts):
        with Image.open(DataFolder(tmp_path).resized_image(post["id"])) as image:
            pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))[..., ::-1]
        values = ((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1)
        with torch.inference_mode():
            wanted = net(torch.from_numpy(values.astype(np.float32))[None])[0].sigmoid()
        np.testing.assert_allclose(held["predictions"][number], wanted, atol=1e-5)
    known = {"input_size": (3, SIZE, SIZE), "fixed_input_size": True}
    assert timm.asked[0]["img_size"] == SIZE and "model_name" not in timm.asked[0]
    given, _ = arguments(CONFIG, PATH)
    assert given["pretrained_cfg"] == known and "hf_hub_id" not in str(given)
    assert to_run(ok(validate(tmp_path, card))) == [0]
    # Another config.json is another network.
    make_timm(tmp_path, net, config=CONFIG | {"note": 1})
    assert to_run(ok(validate(tmp_path, card))) == [6]


def test_files_with_and_without_what_is_no_weight(tmp_path: Path, timm: SimpleNamespace) -> None:
    make_data(tmp_path, 1)
    net = made()
    card = make_timm(tmp_path, net)
    images = torch.rand(3, 3, SIZE, SIZE)
    path = tmp_path / "net" / "model.safetensors"
    state = load_file(path)
    without = {name: value for name, value in state.items() if value.is_floating_point()}
    for held in (state, without, state | {"table": torch.zeros(16)}):
        save_file(held, path)
        network = opened(card, tmp_path).open(CPU, "float32")
        assert network.batch is None
        with torch.inference_mode():
            torch.testing.assert_close(network.outputs(images), net(images))


def test_the_config_is_the_one_beside_the_weights(tmp_path: Path, timm: SimpleNamespace) -> None:
    make_data(tmp_path, 1)
    card = make_timm(tmp_path, made(), card={"file": "best/model.safetensors"})
    place = tmp_path / "net" / "best"
    place.mkdir()
    (place.parent / "model.safetensors").rename(place / "model.safetensors")
    refused(validate(tmp_path, card), "best/config.json is missing")
    (place.parent / "config.json").rename(place / "config.json")
    before = opened(card, tmp_path).fingerprint("float32")
    (place / "config.json").write_text(json.dumps(CONFIG | {"note": 1}))
    assert opened(card, tmp_path).fingerprint("float32") != before
    ok(validate(tmp_path, card))


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_it_asks_for_the_precision_it_says(
    tmp_path: Path, timm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    make_data(tmp_path, 1)
    found = opened(make_timm(tmp_path, made()), tmp_path)
    assert found.precisions == ["float32", "float16", "bfloat16"]
    network, asked = found.open(CPU, precision), []

    @contextlib.contextmanager
    def autocast(device: str, dtype: Any, enabled: bool) -> Iterator[None]:
        asked.append(dtype if enabled else torch.float32)
        yield

    monkeypatch.setattr(torch, "autocast", autocast)
    assert network.outputs(torch.zeros(1, 3, SIZE, SIZE)).dtype == torch.float32
    assert asked == [getattr(torch, precision)]


@pytest.mark.parametrize("error", [ImportError("no\nmodule"), RuntimeError("torchvision::nms")])
def test_without_timm_a_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "timm":
                raise error

    make_data(tmp_path, 1)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    refused(validate(tmp_path, make_timm(tmp_path, made())), "timm", "make venv-timm", "CPU build")


def test_weights_that_do_not_fit(tmp_path: Path, timm: SimpleNamespace) -> None:
    def with_state(**changes: Tensor | None) -> str:
        net = made()
        state = net.state_dict() | {k.replace("__", "."): v for k, v in changes.items()}
        left = {name: value for name, value in state.items() if value is not None}
        net.state_dict = lambda: left  # type: ignore[method-assign,assignment]
        text = error_of(tmp_path, net)
        assert str(tmp_path / "net" / "model.safetensors") in text
        return text

    assert "head.bias is missing" in with_state(head__bias=None)
    assert "unexpected tensor 'extra'" in with_state(extra=torch.zeros(2))
    assert "norm.weight has shape [17]" in with_state(norm__weight=torch.zeros(17))
    assert "head.bias is I64" in with_state(head__bias=torch.zeros(12, dtype=torch.int64))
    assert "norm.bias holds values" in with_state(norm__bias=torch.full((16,), torch.nan))


def test_nothing_but_safetensors_is_read(tmp_path: Path, timm: SimpleNamespace) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    make_data(tmp_path, 1)
    card = make_timm(tmp_path, made(), card={"file": "pytorch_model.bin"})
    (tmp_path / "net" / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    refused(validate(tmp_path, card), "pytorch_model.bin is damaged or no safetensors file")
    assert not (tmp_path / "executed").exists()


def test_a_config_far_larger_than_its_file_takes_no_memory(
    tmp_path: Path, timm: SimpleNamespace
) -> None:
    large = CONFIG["model_args"] | {"embed_dim": 16384, "num_classes": 1_000_000}
    config = CONFIG | {"model_args": large}
    assert "1000000 outputs" in error_of(tmp_path, made(), config=config)
    config["model_args"] = CONFIG["model_args"] | {"embed_dim": 16384}
    assert "has shape [16], config.json calls for [16384]" in error_of(
        tmp_path, made(), config=config
    )


def test_tables_without_end_are_refused(
    tmp_path: Path, timm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wide(Tiny):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.register_buffer("windows", torch.zeros(2**20, 2**20), persistent=False)

    monkeypatch.setattr(timm, "create_model", lambda model_name, **given: Wide(**given))
    text = error_of(tmp_path, made())
    assert "'model_args' makes tables of" in text


def test_what_the_library_cannot_build_or_run_is_one_line(
    tmp_path: Path, timm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = error_of(tmp_path, made(), config=CONFIG | {"architecture": "no_such"})
    assert "'architecture' is 'no_such', which timm 1.0 does not have" in text
    text = error_of(tmp_path, made(), config=CONFIG | {"model_args": {"depth": 3}})
    assert "cannot build tiny_patch8.made_up" in text and "embed_dim" in text
    arguments = CONFIG["model_args"] | {"img_size": 64, "dynamic_img_size": True}
    text = error_of(tmp_path, made(), config=CONFIG | {"model_args": arguments})
    assert "takes no images (n, 3, 32, 32) (the images have another size" in text
    monkeypatch.setattr(Tiny, "forward", lambda self, images: [images])
    assert f"no logits (n, {len(TAGS)})" in error_of(tmp_path, made())


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000])
def test_a_config_that_is_no_object(tmp_path: Path, timm: SimpleNamespace, text: str) -> None:
    make_data(tmp_path, 1)
    card = make_timm(tmp_path, made())
    (tmp_path / "net" / "config.json").write_text(text)
    refused(validate(tmp_path, card), "config.json is not")
    (tmp_path / "net" / "config.json").unlink()
    refused(validate(tmp_path, card), "config.json is missing")


@pytest.mark.parametrize(
    ("card", "image", "words"),
    [
        ({}, {"size": 64}, ["images of size 32", "'image.size'"]),
        ({}, {"mean": [0.5, 0.5, 0.5]}, ["mean [0.4, 0.5, 0.6]", "'image.mean'"]),
        ({}, {"std": [0.2, 0.3, 0.26]}, ["std [0.2, 0.3, 0.25]", "'image.std'"]),
        ({}, {"scale": 1}, ['scale = "1/255"', "'image.scale'"]),
        ({}, {"layout": "nhwc"}, ["nchw", "'image.layout'"]),
        ({"activation": "none"}, {}, ["logits", "'activation'"]),
    ],
)
def test_a_card_that_contradicts_its_config(
    tmp_path: Path, timm: SimpleNamespace, card: Any, image: Any, words: list[str]
) -> None:
    make_data(tmp_path, 1)
    path = make_timm(tmp_path, made(), card=card, image=image)
    refused(validate(tmp_path, path), str(path), *words)
    assert not timm.asked


def test_other_numbers_for_the_same_pixels(tmp_path: Path, timm: SimpleNamespace) -> None:
    make_data(tmp_path, 1)
    image = {"scale": 1, "mean": [102, 127.5, 153], "std": [51, 76.5, 63.75]}
    ok(validate(tmp_path, make_timm(tmp_path, made(), image=image)))


def test_other_tags_than_outputs(tmp_path: Path, timm: SimpleNamespace) -> None:
    text = error_of(tmp_path, made(), config=CONFIG | {"num_classes": 13})
    assert "13 outputs, but tags.txt has 12 tags" in text and "'tags' or 'file'" in text
