"""A config.json or weights of JoyTag that are damaged, or that do not fit."""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from arena.cli import UserError
from demo.server import serve
from models import joytag
from tests.helpers import ROOT, run
from tests.models.joytag_oracle import CONFIG, write

import pytest
import torch
from safetensors.torch import load_file, save_file

BAD_CONFIGS: list[tuple[str, Any]] = [
    ("class", "ResNet"),
    ("class", None),
    ("n_tags", "7"),
    ("n_tags", 0),
    ("n_tags", 7.0),
    ("n_tags", True),
    ("n_tags", 10**15),
    ("image_size", -1),
    ("image_size", 10**9),
    ("image_size", 4),
    ("num_blocks", 10**7),
    ("patch_size", 0),
    ("d_model", 10**6),
    ("d_model", 18),
    ("d_model", 4),
    ("mlp_dim", 10**12),
    ("num_heads", 3),
    ("use_sine", 1),
    ("head_mean_after", None),
    ("cnn_stem", 5),
    ("cnn_stem", ""),
    ("cnn_stem", "pool"),
    ("cnn_stem", "conv"),
    ("cnn_stem", "conv:k=3"),
    ("cnn_stem", "conv:c=16,k=0"),
    ("cnn_stem", "conv:c=16,z=1"),
    ("cnn_stem", "conv:c=999999999999"),
    ("cnn_stem", "conv:c=-16"),
    ("cnn_stem", "conv:c=15"),
    ("cnn_stem", "conv:c=16,k=60,p=0"),
    ("cnn_stem", "ln:c=3;conv:c=16"),
    ("cnn_stem", ";".join(["relu"] * 1000)),
]


@pytest.mark.parametrize(("key", "value"), BAD_CONFIGS)
def test_bad_config(key: str, value: Any) -> None:
    config = CONFIG | {key: value}
    if (key, value) == ("d_model", 18):
        config["num_heads"] = 2
    with pytest.raises(UserError) as error:
        joytag.network(config)
    text = str(error.value)
    assert "config.json" in text and len(text) < 300 and "\n" not in text
    # A size that only fails together with another may be told under the other's name.
    told = "patch_size" if (key, value) == ("image_size", 4) else key
    assert f"'{told}'" in text


@pytest.mark.parametrize("key", ["class", "use_sine", *joytag.SIZES])
def test_missing_key(tmp_path: Path, key: str) -> None:
    write(tmp_path, CONFIG)
    config = {name: value for name, value in CONFIG.items() if name != key}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        joytag.load(tmp_path)
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/config.json: '{key}' is missing: add the key")
    # The hub has no other file under that name: fetching it again would bring the same.
    assert "again" not in text and "fancyfeast/joytag" in text


def test_learned_positions_must_fit_the_stem() -> None:
    with pytest.raises(UserError, match=r"config\.json: 'cnn_stem' leaves a grid of 12 x 12"):
        joytag.network(CONFIG | {"cnn_stem": "conv:c=16", "use_sine": False})


def test_too_many_tokens() -> None:
    with pytest.raises(UserError, match=r"config\.json: 'image_size' makes 65536 tokens"):
        joytag.network(CONFIG | {"image_size": 256, "patch_size": 1})


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\xff", "[" * 100_000])
def test_config_that_is_no_object(tmp_path: Path, text: str) -> None:
    write(tmp_path, CONFIG)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json is not"):
        joytag.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, CONFIG)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{re.escape(name)} is missing"):
        joytag.load(tmp_path)


def changed(folder: Path, **changes: torch.Tensor | None) -> str:
    """The error after setting tensors, or removing those that are None (`__` for dots)."""
    write(folder, CONFIG)
    path = folder / "model.safetensors"
    state = load_file(path)
    for name, value in changes.items():
        if value is None:
            del state[name.replace("__", ".")]
        else:
            state[name.replace("__", ".")] = value
    save_file(state, path)
    with pytest.raises(UserError) as error:
        joytag.load(folder)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    return text


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    assert "blocks.1.out_proj.bias is missing" in changed(tmp_path, blocks__1__out_proj__bias=None)
    assert "unexpected tensor 'extra'" in changed(tmp_path, extra=torch.zeros(2))
    assert "head.weight has shape [8, 16]" in changed(tmp_path, head__weight=torch.zeros(8, 16))
    assert "norm.weight has shape [25]" in changed(tmp_path, norm__weight=torch.zeros(25))
    assert "norm.bias has shape []" in changed(tmp_path, norm__bias=torch.tensor(1.0))
    assert "norm.bias is I64" in changed(tmp_path, norm__bias=torch.zeros(16, dtype=torch.int64))
    assert "norm.bias holds values" in changed(tmp_path, norm__bias=torch.full((16,), math.nan))


def test_spare_rows_are_nine(tmp_path: Path) -> None:
    text = changed(tmp_path, head__weight=torch.zeros(7 + 9 + 1, 16))
    assert "head.weight has shape [17, 16]" in text


def test_damaged_weights(tmp_path: Path) -> None:
    write(tmp_path, CONFIG)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    huge = {"norm.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    header = json.dumps(huge).encode()
    bad = [
        b"",
        b"PK\x03\x04 not safetensors at all",
        whole[:5],
        whole[: len(whole) // 3],
        whole[:-1],
        whole + b"\0",
        struct.pack("<Q", 2**62) + whole[8:],
        struct.pack("<Q", len(header)) + header,
        struct.pack("<Q", 4) + b"[[[[",
    ]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
            joytag.load(tmp_path)


def test_a_config_far_larger_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    write(tmp_path, CONFIG)
    # Some 300 GB as float32, were it ever allocated.
    large = CONFIG | {"num_blocks": 100, "d_model": 8192, "mlp_dim": 65536, "num_heads": 64}
    (tmp_path / "config.json").write_text(json.dumps(large))
    with pytest.raises(UserError, match=r"model\.safetensors: tensor blocks\.\d+\S* is missing"):
        joytag.load(tmp_path)


FETCH = """
from arena import hub
from models.card import card, weight_names
model = card("joytag")
print([hub.fetch(model.source, model.revision, name) for name in weight_names(model)][0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_to_do_about_a_damaged_file_of_the_hub_helps(tmp_path: Path, name: str) -> None:
    with serve(hub=ROOT / "demo" / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
        folder = Path(run("-c", FETCH, env=env).out.strip()).parent
        joytag.load(folder)
        file = (folder / name).resolve()
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(UserError) as error:
            joytag.load(folder)
        found = re.search(r"delete (\S+) and run the same command again", str(error.value))
        assert found
        Path(found[1]).unlink()
        run("-c", FETCH, env=env)
        joytag.load(folder)
