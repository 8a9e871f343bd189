"""Train the demo's two tiny taggers on drawings and write them in the published formats.

    python -m demo.train --hub demo/hub

Both learn from the same drawings, each prepared as its card in models/ says, each with its own
tags: SmilingWolf/wd-v1-4-vit-tagger-v2 as a TensorFlow SavedModel with selected_tags.csv, and
fancyfeast/joytag as config.json, model.safetensors and top_tags.txt. The demo's posts are other
drawings (other seeds), so no model has seen them.

Takes eight minutes of processor time, so some five on two free cores. Run again on the same
machine with the pinned packages it writes the same bytes: everything is seeded, and each model
trains on one thread. A processor with other vector instructions sums in another order, which
training amplifies: there the weights differ and the scores are alike. The drawings, the tag files
and config.json are the same everywhere.
"""

import argparse
import copy
import csv
import io
import json
import os
import time
import zlib
from collections import Counter
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from arena.cli import at_least, run
from arena.files import atomic, write_text
from arena.validate.preprocess import geometry, normalise, squares
from demo.drawings import COLORS, FACES, GLYPHS, IMPLICATIONS, SYMBOLS, choose_size, draw
from models import joytag
from models.card import card

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

SEED = 20231120
BATCH = 32
RATE = 2e-3  # The highest learning rate.
POOL = 8  # Both networks begin by averaging squares of this many pixels a side.
RATINGS = {"general": 0.7, "sensitive": 0.2, "questionable": 0.06, "explicit": 0.04}

PLAIN = sorted(tag for tag in IMPLICATIONS if tag.removesuffix("_background") in COLORS)
KNOWN = sorted(
    {
        *PLAIN,
        *(SYMBOLS.keys() | FACES.keys() | set(GLYPHS)),
        *("black_border", "blue_sky", "blue_theme", "border", "checkered", "checkered_background"),
        *("cloud", "crescent_moon", "dated", "diagonal-striped_background", "full_moon"),
        *("gradient_background", "green_theme", "grid_background", "greyscale", "letterboxed"),
        *("monochrome", "moon", "night_sky", "no_humans", "pillarboxed", "polka_dot"),
        *("polka_dot_background", "rainbow", "red_theme", "sepia", "signature"),
        *("simple_background", "sky", "starry_sky", "striped", "striped_background", "sun"),
        *("two-tone_background", "white_border"),
    }
)
# What an output is called where that is not the tag it learns: old names of both kinds.
WD_NAMES = {"polka_dots": "polka_dot"}
JOYTAG_NAMES = {"grayscale": "greyscale"}
# Tags that no drawing has.
WD_NEVER = ("1girl", "solo", "long_hair", "looking_at_viewer", "hat")
JOYTAG_NEVER = ("1girl", "solo", "smile", "cat_ears", "dog", "weapon")
WD_GENERAL = sorted(
    (set(KNOWN) - {"hexagon", "pillarboxed", "sepia", "\\m/"}) | {*WD_NAMES, *WD_NEVER}
)
WD_CHARACTERS = ["hakurei_reimu", "hatsune_miku", "kirby", "pac-man", "slime_(dragon_quest)"]
WD_TAGS = [*RATINGS, *WD_GENERAL, *WD_CHARACTERS]
JOYTAG_TAGS = sorted(
    (set(KNOWN) - {"greyscale", "grid_background", "spiral", ":d", "two-tone_background"})
    | {*JOYTAG_NAMES, *JOYTAG_NEVER, "kirby", "pac-man", "pac-man_(game)", "lowres"}
)
AVERAGE = f"conv:c=3,k={POOL},s={POOL},p=0"
STEM = "conv:c=24;bn;relu;conv:c=48;bn;relu;conv:c=64"
JOYTAG_CONFIG = {
    "class": "ViT",
    "n_tags": len(JOYTAG_TAGS),
    "image_size": 448,
    "num_blocks": 2,
    "patch_size": 64,
    "d_model": 64,
    "mlp_dim": 128,
    "num_heads": 4,
    "stochdepth_rate": 0.0,
    "use_sine": True,
    "loss_type": "ce",
    "layerscale_init": None,
    "head_mean_after": False,
    "cnn_stem": f"{AVERAGE};{STEM}",
    "patch_dropout": 0.0,
}
WD_WIDTH, WD_HEADS, WD_BLOCKS, WD_HIDDEN, WD_GRID = 64, 4, 2, 128, 7


class WdViT(nn.Module):
    """The SmilingWolf stand-in as torch trains it, after the pooling: convolutions, then ViT.

    Takes BGR pixels of 0 to 255 (n, 3, 56, 56) and gives logits.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 32, 4, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(32)
        self.stem2 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(48)
        self.stem3 = nn.Conv2d(48, WD_WIDTH, 3, stride=2, padding=1)
        self.position = nn.Parameter(torch.randn(WD_GRID**2, WD_WIDTH) * 0.02)
        self.blocks = nn.ModuleList(
            joytag.Block(WD_WIDTH, WD_HIDDEN, WD_HEADS) for _ in range(WD_BLOCKS)
        )
        self.norm = nn.LayerNorm(WD_WIDTH)
        self.head = nn.Linear(WD_WIDTH, outputs)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (n, outputs)."""
        x = functional.gelu(self.norm1(self.stem1(pixels / 127.5 - 1)))
        x = functional.gelu(self.norm2(self.stem2(x)))
        x = self.stem3(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def pooled(square: np.ndarray) -> np.ndarray:
    """(448, 448, 3) uint8 to the sums of its 8 x 8 squares, int16 (3, 56, 56).

    Both networks begin by averaging exactly these squares, so training starts after that step.
    """
    side = square.shape[0] // POOL
    parts = square.reshape(side, POOL, side, POOL, 3)
    sums: np.ndarray = parts.sum(axis=(1, 3), dtype=np.int16)
    return sums.transpose(2, 0, 1)


def example(index: int, seed: int) -> tuple[np.ndarray, np.ndarray, frozenset[str]]:
    """Drawing number `index` as both models see it (RGB, pooled), and its tags."""
    rng = np.random.default_rng([seed, 2, index])
    image, tags = draw(rng, choose_size(rng))
    wanted = [geometry(card(name).image) for name in ("wd-v1-4-vit-tagger-v2", "joytag")]
    made = squares(torch.from_numpy(np.array(image)), wanted)
    wd, joy = (pooled(made[one].numpy()) for one in wanted)
    return wd, joy, tags


def examples(pool: Executor, count: int, seed: int) -> tuple[Tensor, Tensor, list[frozenset[str]]]:
    """`count` drawings for training or evaluation."""
    made = list(pool.map(example, range(count), [seed] * count, chunksize=32))
    wd, joy, tags = zip(*made, strict=True)
    return torch.from_numpy(np.stack(wd)), torch.from_numpy(np.stack(joy)), list(tags)


def targets(tags: list[frozenset[str]], names: list[str], renamed: dict[str, str]) -> Tensor:
    """float32 (drawings, names): 1 where the drawing has the tag; ratings get their shares."""
    made = torch.zeros(len(tags), len(names))
    for column, name in enumerate(names):
        tag = renamed.get(name, name)
        made[:, column] = torch.tensor([float(tag in own) for own in tags])
    return made


def wd_input(sums: Tensor) -> Tensor:
    """Pooled sums, RGB, to the mean BGR pixels that the SavedModel's pooling gives."""
    return sums.flip(1).to(torch.float32) / POOL**2


def joytag_input(sums: Tensor) -> Tensor:
    """Pooled sums to what the first, fixed convolution gives for the normalised image."""
    image = card("joytag").image
    mean, std = (torch.tensor(values)[:, None, None] for values in (image.mean, image.std))
    return (sums.to(torch.float32) / POOL**2 * image.scale - mean) / std


INPUTS = {"wd": wd_input, "joytag": joytag_input}


def new_network(name: str) -> WdViT | joytag.ViT:
    """The network that is trained, on pooled images, seeded."""
    torch.manual_seed(SEED)
    if name == "wd":
        return WdViT(len(WD_TAGS))
    return joytag.network({**JOYTAG_CONFIG, "image_size": 448 // POOL, "cnn_stem": STEM})


def train(name: str, sums: Tensor, wanted: Tensor, epochs: int) -> dict[str, np.ndarray]:
    """The weights after AdamW on the binary cross-entropy, warmed up and cooled down."""
    torch.use_deterministic_algorithms(True)
    net, prepared = new_network(name), INPUTS[name]
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Start from how common the tags are; the network need not find that out.
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = wanted.mean(0).clamp(1e-4, 1 - 1e-4).logit()
    steps = len(sums) // BATCH
    # A symbol may be one token of 49 in the mean: the head must learn fast to hear it.
    fast = [*net.norm.parameters(), *net.head.parameters()]
    slow = [weight for weight in net.parameters() if all(weight is not other for other in fast)]
    optimizer = torch.optim.AdamW([{"params": slow}, {"params": fast}], weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [RATE, 10 * RATE], epochs * steps, pct_start=0.15
    )
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        for picked in torch.randperm(len(sums))[: steps * BATCH].split(BATCH):
            logits = net(prepared(sums[picked]))
            loss = functional.binary_cross_entropy_with_logits(logits, wanted[picked])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            optimizer.step()
            schedule.step()
            total += loss.item()
        took = time.monotonic() - started
        print(f"{name} {epoch + 1}/{epochs}: loss {total / steps:.4f}, {took:.0f} s", flush=True)
    return {key: value.contiguous().numpy() for key, value in net.state_dict().items()}


def trained(name: str, weights: dict[str, np.ndarray]) -> nn.Module:
    """The network with the weights that `train` found."""
    net = new_network(name)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return net.eval().requires_grad_(False)


def serving(weights: dict[str, Any]) -> Any:
    """The SavedModel's function: WdViT in TensorFlow, from whole NHWC images to sigmoids."""
    import tensorflow as tf

    def norm(x: Any, name: str) -> Any:
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axis=-1, keepdims=True)
        scaled = (x - mean) * tf.math.rsqrt(variance + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return tf.matmul(x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]

    def gelu(x: Any) -> Any:
        # Through Erf, as TensorFlow 2.10 wrote it; today's tf.nn.gelu writes Erfc.
        return 0.5 * x * (1.0 + tf.math.erf(x / np.float32(np.sqrt(2))))

    def convolution(x: Any, name: str, stride: int, pad: int) -> Any:
        edges = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
        return tf.nn.conv2d(x, weights[f"{name}.weight"], stride, edges) + weights[f"{name}.bias"]

    def heads(x: Any) -> Any:
        split = tf.reshape(x, [-1, WD_GRID**2, WD_HEADS, WD_WIDTH // WD_HEADS])
        return tf.transpose(split, [0, 2, 1, 3])

    def attention(x: Any, name: str) -> Any:
        q, k, v = (heads(part) for part in tf.split(linear(x, f"{name}.qkv_proj"), 3, axis=-1))
        scale = np.float32((WD_WIDTH // WD_HEADS) ** -0.5)
        share = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * scale)
        joined = tf.transpose(tf.matmul(share, v), [0, 2, 1, 3])
        return linear(tf.reshape(joined, [-1, WD_GRID**2, WD_WIDTH]), f"{name}.out_proj")

    def serve(input_1: Any) -> Any:
        x = tf.nn.avg_pool2d(input_1, POOL, POOL, "VALID") / 127.5 - 1.0
        x = gelu(convolution(x, "stem1", 2, 1))
        x = gelu(convolution(x, "stem2", 2, 1))
        x = convolution(x, "stem3", 2, 1)
        x = tf.reshape(x, [-1, WD_GRID**2, WD_WIDTH]) + weights["position"]
        for index in range(WD_BLOCKS):
            name = f"blocks.{index}"
            mixed = attention(norm(x, f"{name}.norm1"), name)
            x += mixed * weights[f"{name}.skip_init1.skip"]
            hidden = gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.linear1"))
            x += linear(hidden, f"{name}.mlp.linear2") * weights[f"{name}.skip_init2.skip"]
        logits = linear(tf.reduce_mean(norm(x, "norm"), axis=1), "head")
        return {"predictions_sigmoid": tf.sigmoid(logits)}

    return tf.function(serve, [tf.TensorSpec([None, 448, 448, 3], tf.float32, "input_1")])


def save_wd(net: nn.Module, folder: Path) -> None:
    """Write the SavedModel, and check that TensorFlow answers what torch does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    # The exported graph has no batch norm: each is a part of the convolution before it.
    plain = copy.deepcopy(net)
    for number in ("1", "2"):
        fused = fuse_conv_bn_eval(getattr(net, f"stem{number}"), getattr(net, f"norm{number}"))
        setattr(plain, f"stem{number}", fused)
        delattr(plain, f"norm{number}")
    weights = {}
    for name, tensor in plain.state_dict().items():
        if tensor.ndim == 4:
            tensor = tensor.permute(2, 3, 1, 0)
        elif tensor.ndim == 2 and name != "position":
            tensor = tensor.T
        weights[name] = tf.Variable(tensor.numpy(), trainable=False, name=name.replace(".", "/"))
    module = tf.Module()
    module.weights = list(weights.values())
    module.serve = serving(weights)
    folder.mkdir(parents=True, exist_ok=True)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    # Newer than the format of TensorFlow 2.10, and different at every run.
    (folder / "fingerprint.pb").unlink()
    (folder / "assets").rmdir()

    pixels, sums = random_images()
    wanted = net(wd_input(sums)).sigmoid().numpy()
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    bgr = tf.constant(pixels[..., ::-1].astype(np.float32))
    given = signature(bgr)["predictions_sigmoid"].numpy()
    if np.abs(given - wanted).max() > 1e-5:
        raise RuntimeError("the SavedModel does not compute what was trained")


def save_wd_tags(folder: Path, tags: list[frozenset[str]]) -> None:
    """Write selected_tags.csv: ratings, then general tags, then characters."""
    counts, drawings = Counter(tag for own in tags for tag in own), len(tags)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["tag_id", "name", "category", "count"])
    for index, name in enumerate(RATINGS):
        table.writerow([9_999_999 - index, name, 9, round(RATINGS[name] * drawings)])
    for names, category in ((WD_GENERAL, 0), (WD_CHARACTERS, 4)):
        for name in names:
            table.writerow([tag_id(name), name, category, counts[WD_NAMES.get(name, name)]])
    write_text(folder / "selected_tags.csv", text.getvalue())


def tag_id(name: str) -> int:
    """A stand-in for Danbooru's number of a tag."""
    return zlib.crc32(name.encode()) % 1_900_000 + 1


def save_joytag(net: nn.Module, folder: Path) -> None:
    """Write config.json, model.safetensors and top_tags.txt, and check the files' answers.

    The first layer of the file's stem is the averaging that training had done beforehand.
    """
    state = {"patch_embeddings.conv.0.weight": torch.zeros(3, 3, POOL, POOL)}
    state["patch_embeddings.conv.0.weight"][range(3), range(3)] = 1 / POOL**2
    state["patch_embeddings.conv.0.bias"] = torch.zeros(3)
    for name, tensor in net.state_dict().items():
        if name.startswith("patch_embeddings.conv."):
            layer, rest = name.removeprefix("patch_embeddings.conv.").split(".", 1)
            name = f"patch_embeddings.conv.{int(layer) + 1}.{rest}"
        state[name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(JOYTAG_CONFIG, indent=2) + "\n")
    write_text(folder / "top_tags.txt", "\n".join(JOYTAG_TAGS) + "\n")
    with atomic(folder / "model.safetensors") as file:
        file.write(save(state))

    pixels, sums = random_images()
    images = normalise(torch.from_numpy(pixels), card("joytag").image)
    off = (joytag.load(folder)(images) - net(joytag_input(sums))).abs().max()
    if off > 1e-4:
        raise RuntimeError("the JoyTag files do not compute what was trained")


def random_images() -> tuple[np.ndarray, Tensor]:
    """Three images of noise, uint8 (3, 448, 448, 3), whole and pooled."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (3, 448, 448, 3), dtype=np.uint8)
    return pixels, torch.from_numpy(np.stack([pooled(one) for one in pixels]))


def report(label: str, scores: Tensor, wanted: Tensor, names: list[str], threshold: float) -> None:
    """Print macro F1 over the tags with ten drawings or more, and each tag's F1."""
    said, true = scores >= threshold, wanted == 1
    hits = (said & true).sum(0)
    f1 = 2 * hits / (said.sum(0) + true.sum(0)).clamp(min=1)
    enough = true.sum(0) >= 10
    print(f"{label}: macro F1 {f1[enough].mean():.4f} over {int(enough.sum())} tags")
    order = [index for index in f1.argsort().tolist() if enough[index]]
    print("  " + ", ".join(f"{names[index]} {f1[index]:.2f}" for index in order))


def main() -> None:
    """Draw, train both, write both, evaluate both."""
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("--hub", type=Path, required=True, metavar="DIR", help="hub folder to write")
    args.add_argument("--count", type=at_least(BATCH), default=5000, help="drawings to train on")
    args.add_argument("--epochs", type=at_least(1), default=24, help="passes over them")
    options = args.parse_args()
    started = time.monotonic()
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        2, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        wd_sums, joytag_sums, tags = examples(pool, options.count, SEED)
        unseen_wd, unseen_joytag, unseen_tags = examples(pool, 500, SEED + 1)
        print(f"drew {options.count + 500} in {time.monotonic() - started:.0f} s", flush=True)
        wd_wanted = targets(tags, WD_TAGS, WD_NAMES)
        wd_wanted[:, : len(RATINGS)] = torch.tensor(list(RATINGS.values()))
        joytag_wanted = targets(tags, JOYTAG_TAGS, JOYTAG_NAMES)
        wd_job = pool.submit(train, "wd", wd_sums, wd_wanted, options.epochs)
        joytag_job = pool.submit(train, "joytag", joytag_sums, joytag_wanted, options.epochs)
        wd, joy = trained("wd", wd_job.result()), trained("joytag", joytag_job.result())

    folder = options.hub / "SmilingWolf" / "wd-v1-4-vit-tagger-v2"
    save_wd(wd, folder)
    save_wd_tags(folder, tags)
    save_joytag(joy, options.hub / "fancyfeast" / "joytag")

    wd_scores = wd(wd_input(unseen_wd)).sigmoid()
    joytag_scores = joy(joytag_input(unseen_joytag)).sigmoid()
    wd_wanted = targets(unseen_tags, WD_TAGS, WD_NAMES)
    joytag_wanted = targets(unseen_tags, JOYTAG_TAGS, JOYTAG_NAMES)
    report("SmilingWolf", wd_scores, wd_wanted, WD_TAGS, 0.3537)
    report("JoyTag", joytag_scores, joytag_wanted, JOYTAG_TAGS, 0.4)
    print(f"took {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run(main)
