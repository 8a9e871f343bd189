"""JoyTag's network once more, in NumPy and float64, as its published description puts it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

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
