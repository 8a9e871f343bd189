"""models/joytag.py against a second forward pass, in NumPy and float64, bad files, and the
published files: config.json and top_tags.txt as they are, tensors of the names and shapes there."""

import json
import math
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena.cli import UserError
from demo.server import serve
from models import card as cards
from models import joytag
from tests.helpers import ROOT, make_data, run

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

REAL = ROOT / "tests" / "real" / "joytag"
Weights = dict[str, np.ndarray]
Config = dict[str, Any]

CONFIG: Config = {
    "class": "ViT",
    "n_tags": 7,
    "image_size": 24,
    "num_blocks": 2,
    "patch_size": 8,
    "d_model": 16,
    "mlp_dim": 20,
    "num_heads": 4,
    "stochdepth_rate": 0.05,
    "use_sine": True,
    "loss_type": "ce",
    "layerscale_init": None,
    "head_mean_after": False,
    "cnn_stem": None,
    "patch_dropout": 0.1,
}
DEFAULTS: Config = {"head_mean_after": False, "cnn_stem": None}
STEM = "conv:c=6;ln;relu;conv:c=10,k=2,s=2,p=0;bn;gelu;conv:c=16,k=5,s=2,p=2"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are so small that a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The oracle: the network once more, as its published description puts it, loops and all.


def erf(x: np.ndarray) -> np.ndarray:
    values: np.ndarray = np.vectorize(math.erf)(x)
    return values


def gelu(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x * 0.5 * (1 + erf(x / math.sqrt(2)))
    return y


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    y: np.ndarray = centred / np.sqrt(variance + 1e-5)
    return y * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def convolution(x: np.ndarray, w: Weights, name: str, stride: int, pad: int) -> np.ndarray:
    """(h, w, channels) in and out."""
    kernel = w[f"{name}.weight"]
    k = kernel.shape[2]
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    rows = (x.shape[0] - k) // stride + 1
    columns = (x.shape[1] - k) // stride + 1
    out = np.empty((rows, columns, kernel.shape[0]))
    for row in range(rows):
        for column in range(columns):
            window = x[row * stride : row * stride + k, column * stride : column * stride + k]
            out[row, column] = np.einsum("yxi,oiyx->o", window, kernel)
    return out + w[f"{name}.bias"]


def stem(x: np.ndarray, w: Weights, text: str) -> np.ndarray:
    for number, layer in enumerate(text.split(";")):
        name = f"patch_embeddings.conv.{number}"
        if layer == "ln":
            x = layer_norm(x, w, f"{name}.norm")
        elif layer == "bn":
            scaled = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
            x = scaled * w[f"{name}.weight"] + w[f"{name}.bias"]
        elif layer == "relu":
            x = np.maximum(x, 0)
        elif layer == "gelu":
            x = gelu(x)
        else:
            found = dict(re.findall(r"(\w)=(\d+)", layer))
            x = convolution(x, w, name, int(found.get("s", 2)), int(found.get("p", 1)))
    return x


def position(column: int, row: int, d: int) -> np.ndarray:
    frequencies = [10000 ** (-i / (d / 4 - 1)) for i in range(d // 4)]
    return np.array(
        [math.sin(column * f) for f in frequencies]
        + [math.cos(column * f) for f in frequencies]
        + [math.sin(row * f) for f in frequencies]
        + [math.cos(row * f) for f in frequencies]
    )


def attention(x: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    d = x.shape[1]
    qkv = linear(x, w, f"{name}.qkv_proj")
    out = np.empty_like(x)
    for head in range(heads):
        part = slice(head * d // heads, (head + 1) * d // heads)
        q, k, v = (qkv[:, start : start + d][:, part] for start in (0, d, 2 * d))
        scores = q @ k.T / math.sqrt(d // heads)
        share = np.exp(scores - scores.max(1, keepdims=True))
        out[:, part] = share / share.sum(1, keepdims=True) @ v
    return linear(out, w, f"{name}.out_proj")


def oracle(image: np.ndarray, w: Weights, config: Config) -> np.ndarray:
    """Logits (n_tags,) of one (3, s, s) image."""
    pixels = image.transpose(1, 2, 0)
    if config["cnn_stem"] is None:
        grid = convolution(pixels, w, "patch_embeddings", config["patch_size"], 0)
    else:
        grid = stem(pixels, w, config["cnn_stem"])
    x = grid.reshape(-1, config["d_model"])
    if config["use_sine"]:
        rows, columns = grid.shape[:2]
        tokens = [(column, row) for row in range(rows) for column in range(columns)]
        x = x + np.stack([position(column, row, config["d_model"]) for column, row in tokens])
    else:
        x = x + w["pos_embedding.embedding.weight"]
    for number in range(config["num_blocks"]):
        name = f"blocks.{number}"
        mixed = attention(layer_norm(x, w, f"{name}.norm1"), w, name, config["num_heads"])
        x = x + w[f"{name}.skip_init1.skip"] * mixed
        hidden = gelu(linear(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.linear1"))
        x = x + w[f"{name}.skip_init2.skip"] * linear(hidden, w, f"{name}.mlp.linear2")
    x = layer_norm(x, w, "norm")
    logits: np.ndarray
    if config["head_mean_after"]:
        logits = linear(x, w, "head").mean(0)
    else:
        logits = linear(x.mean(0), w, "head")
    return logits[: config["n_tags"]]


def shapes(config: Config, spare_rows: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published tensors."""
    config = DEFAULTS | config
    d, hidden, rows = config["d_model"], config["mlp_dim"], config["n_tags"] + 9 * spare_rows
    made: dict[str, tuple[int, ...]] = {}

    def pair(name: str, *shape: int) -> None:
        made[f"{name}.weight"] = shape
        made[f"{name}.bias"] = shape[:1]

    if config["cnn_stem"] is None:
        pair("patch_embeddings", d, 3, config["patch_size"], config["patch_size"])
    else:
        channels = 3
        for number, layer in enumerate(config["cnn_stem"].split(";")):
            name = f"patch_embeddings.conv.{number}"
            if layer.startswith("conv"):
                found = dict(re.findall(r"(\w)=(\d+)", layer))
                out, k = int(found["c"]), int(found.get("k", 3))
                pair(name, out, channels, k, k)
                channels = out
            elif layer == "ln":
                pair(f"{name}.norm", channels)
            elif layer == "bn":
                pair(name, channels)
                made[f"{name}.running_mean"] = made[f"{name}.running_var"] = (channels,)
    if not config["use_sine"]:
        made["pos_embedding.embedding.weight"] = (
            (config["image_size"] // config["patch_size"]) ** 2,
            d,
        )
    for number in range(config["num_blocks"]):
        name = f"blocks.{number}"
        pair(f"{name}.norm1", d)
        pair(f"{name}.qkv_proj", 3 * d, d)
        pair(f"{name}.out_proj", d, d)
        made[f"{name}.skip_init1.skip"] = (d,)
        pair(f"{name}.norm2", d)
        pair(f"{name}.mlp.linear1", hidden, d)
        pair(f"{name}.mlp.linear2", d, hidden)
        made[f"{name}.skip_init2.skip"] = (d,)
    pair("norm", d)
    pair("head", rows, d)
    return made


def write(folder: Path, config: Config, spare_rows: bool = False, seed: int = 0) -> Weights:
    """Files with random weights; returns the weights."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(config, spare_rows).items():
        # float32 values, so that file and oracle hold the same numbers.
        value = rng.normal(0, 0.4, shape).astype(np.float32)
        weights[name] = np.abs(value) + 0.1 if name.endswith("running_var") else value
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: torch.from_numpy(v) for k, v in weights.items()}, folder / "model.safetensors")
    return {name: value.astype(np.float64) for name, value in weights.items()}


def images(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1, (count, 3, size, size))


def agrees(folder: Path, config: Config, spare_rows: bool, seed: int) -> None:
    weights = write(folder, config, spare_rows, seed)
    net = joytag.load(folder)
    batch = images(config["image_size"])
    wanted = np.stack([oracle(image, weights, config) for image in batch])
    with torch.no_grad():
        single = net(torch.from_numpy(batch).float())
        double = net.double()(torch.from_numpy(batch))
    assert single.dtype == torch.float32 and single.shape == (2, config["n_tags"])
    np.testing.assert_allclose(double.numpy(), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cnn_stem", [None, STEM])
@pytest.mark.parametrize("use_sine", [True, False])
@pytest.mark.parametrize("head_mean_after", [True, False])
@pytest.mark.parametrize("spare_rows", [True, False])
def test_forward_is_the_oracles(
    tmp_path: Path, cnn_stem: str | None, use_sine: bool, head_mean_after: bool, spare_rows: bool
) -> None:
    config = CONFIG | {
        "cnn_stem": cnn_stem,
        "use_sine": use_sine,
        "head_mean_after": head_mean_after,
    }
    agrees(tmp_path, config, spare_rows, seed=2)


@settings(max_examples=15, deadline=None)
@given(
    patch=st.integers(3, 9),
    side=st.integers(1, 4),
    rest=st.integers(0, 2),
    heads=st.integers(1, 3),
    head_width=st.sampled_from([4, 8]),
    hidden=st.integers(1, 20),
    blocks=st.integers(1, 3),
    tags=st.integers(1, 12),
    use_sine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_forward_is_the_oracles_at_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    patch: int,
    side: int,
    rest: int,
    heads: int,
    head_width: int,
    hidden: int,
    blocks: int,
    tags: int,
    use_sine: bool,
    seed: int,
) -> None:
    config = CONFIG | {
        "patch_size": patch,
        "image_size": patch * side + rest,
        "num_heads": heads,
        "d_model": 2 * heads * head_width,
        "mlp_dim": hidden,
        "num_blocks": blocks,
        "n_tags": tags,
        "use_sine": use_sine,
    }
    agrees(tmp_path_factory.mktemp("joytag"), config, False, seed)


def test_keys_that_the_file_lacks_have_upstreams_defaults(tmp_path: Path) -> None:
    for key, value in DEFAULTS.items():
        weights = write(tmp_path, {name: CONFIG[name] for name in CONFIG if name != key})
        with torch.no_grad():
            logits = joytag.load(tmp_path).double()(torch.from_numpy(images(24)))
        wanted = np.stack([oracle(image, weights, CONFIG | {key: value}) for image in images(24)])
        np.testing.assert_allclose(logits.numpy(), wanted, rtol=1e-10, atol=1e-10)


def test_an_image_counts_on_its_own(tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {"cnn_stem": STEM})
    net = joytag.load(tmp_path)
    batch = torch.from_numpy(images(24, 5)).float()
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[3:4], net(batch[3:4]), rtol=1e-5, atol=1e-5)


def test_half_precision_by_autocast(tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {"cnn_stem": STEM})
    net = joytag.load(tmp_path)
    batch = torch.from_numpy(images(24)).float()
    with torch.no_grad():
        exact = net(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(batch)
    assert rough.isfinite().all()
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    write(tmp_path, CONFIG)
    path = tmp_path / "model.safetensors"
    halves = {name: value.half() for name, value in load_file(path).items()}
    save_file(halves, path)
    state = joytag.load(tmp_path).state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert all(torch.equal(state[name], value.float()) for name, value in halves.items())


def test_state_dict_has_the_published_names() -> None:
    for config in (CONFIG, CONFIG | {"cnn_stem": STEM, "use_sine": False}):
        state = joytag.network(config).state_dict()
        held = {name: tuple(v.shape) for name, v in state.items() if "num_batches" not in name}
        assert held == shapes(config, spare_rows=False)


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


FETCH = """
from arena import hub
from models.card import card, weight_names
model = card("joytag")
print([hub.fetch(model.source, model.revision, name) for name in weight_names(model)][0])
"""


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
