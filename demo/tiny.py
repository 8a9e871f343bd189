"""What tests and benches share: tiny taggers, and data folders of random posts."""

import json
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE = 32  # Of the tiny taggers' input.


def make_image(path: Path, rng: np.random.Generator) -> None:
    """A resized image of some blocks of colour."""
    width, height = (int(side) for side in rng.integers(20, 90, 2))
    blocks = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(
        path, "WEBP", quality=80
    )


def make_data(
    folder: Path, count: int, *, seed: int = 0, first: int = 6_700_000, tags: int = 12
) -> list[dict[str, Any]]:
    """A data folder as download.py and trainable.py leave it, with random posts. Returns them."""
    rng = np.random.default_rng(seed)
    data = DataFolder(folder)
    data.resized.mkdir(parents=True, exist_ok=True)
    data.metadata.mkdir(exist_ok=True)
    posts = []
    for number in range(count):
        post_id = first + 3 * number
        make_image(data.resized_image(post_id), rng)
        carried = [f"tag_{tag}" for tag in range(tags) if rng.random() < 0.2 + 0.05 * tag]
        posts.append(
            {
                "id": post_id,
                "rating": "gsqe"[number % 4],
                "tag_string": " ".join(carried),
                "tag_string_general": " ".join(carried[1:]),
                "tag_string_character": " ".join(carried[:1]),
            }
        )
    with data.posts.open("w") as file:
        for post in reversed(posts):
            file.write(json.dumps(post) + "\n")
    write_mappings(folder, [], [])
    return posts


def write_mappings(
    folder: Path, aliases: list[tuple[str, ...]], implications: list[tuple[str, ...]]
) -> None:
    """Metadata files of rows (antecedent, consequent[, status])."""
    for name, rows in (("tag_aliases", aliases), ("tag_implications", implications)):
        with DataFolder(folder).tag_rows(name).open("w") as file:
            for row in rows:
                status = row[2] if len(row) > 2 else "active"
                fields = {"antecedent_name": row[0], "consequent_name": row[1], "status": status}
                file.write(json.dumps(fields) + "\n")


def make_onnx(
    path: Path,
    tags: int,
    *,
    seed: int = 0,
    layout: str = "nhwc",
    batch: int | str = "n",
    logits: bool = False,
    size: int = SIZE,
    half: bool = False,
    bias: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A tagger that is a linear map of a 4 x 4 grid of mean colours. Returns its map and bias."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.02, (48, tags)).astype(np.float32)
    offset = np.full(tags, bias, np.float32)
    shape = [batch, size, size, 3] if layout == "nhwc" else [batch, 3, size, size]
    nodes = [
        helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool",
            ["nchw" if layout == "nhwc" else "images"],
            ["grid"],
            kernel_shape=[size // 4] * 2,
            strides=[size // 4] * 2,
        ),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    if layout != "nhwc":
        del nodes[0]
    if logits:
        del nodes[-1]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    if half:
        weight, offset = weight.astype(np.float16), offset.astype(np.float16)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits" if logits else "scores", kind, [batch, tags])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(offset, "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return weight, offset


CARD: dict[str, Any] = {
    "label": "Tiny",
    "kind": "onnx",
    "source": ".",
    "file": "tiny.onnx",
    "tags": "tiny.txt",
    "threshold": 0.5,
    "last_post_id": 5_000_000,
    "activation": "none",
}
IMAGE: dict[str, Any] = {
    "size": SIZE,
    "pad": "at_least",
    "resize": "area",
    "channels": "bgr",
    "layout": "nhwc",
    "scale": 0.0039,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}


def toml(card: dict[str, Any], image: dict[str, Any]) -> str:
    """A model's TOML text; JSON's texts, numbers and lists are TOML's too."""
    tables = {key: value for key, value in card.items() if isinstance(value, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in card.items() if k not in tables]
    for name, table in {**tables, "image": image}.items():
        lines += [f"[{name}]", *(f"{k} = {_toml_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + "}"


def make_model(
    folder: Path,
    name: str,
    tags: list[str],
    *,
    card: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    **network: Any,
) -> Path:
    """A tiny ONNX tagger in a data folder, its tags and its TOML file, whose path it gives."""
    fields = {**CARD, "file": f"{name}.onnx", "tags": f"{name}.txt", **(card or {})}
    settings = {**IMAGE, **(image or {})}
    make_onnx(folder / fields["file"], len(tags), **{"layout": settings["layout"], **network})
    if not (folder / fields["tags"]).exists():
        (folder / fields["tags"]).write_text("\n".join(tags) + "\n")
    path = folder / f"{name}.toml"
    path.write_text(toml(fields, settings))
    return path
