"""JoyTag and the exported ONNX model at real size (random weights) on a GPU: what is the limit.

    python -m bench.gpu                                      # needs one CUDA GPU
    python -m bench.gpu --device cpu --images 16 --size small   # only shows that it runs

For each model alone and for both together: validate.py's inference over a folder of WebP images,
beside the rate at which the same threads only decode those images (the floor of the CPU side), the
rate at which the network alone takes ready batches (the floor of the GPU side), and the GPU's
utilisation while the pipeline runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import models
from arena.data_folder import DataFolder
from arena.tagger import Tagger
from arena.validate import inference
from arena.validate.predictions import Cache
from arena.validate.preprocess import normalise
from bench import measure
from bench.export import SIZES
from bench.predict import make_images
from danbooru_metadata import TagMappings
from demo.tiny import CARD, toml, write_mappings
from models import card as cards
from models.joytag import network

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

DISTINCT = 64  # Images; more posts are links to them.
STEM = "conv:c=128;ln;relu;conv:c=256;ln;relu;conv:c=512;ln;relu;conv:c={width}"


def make_joytag(data: Path, size: str) -> Path:
    """JoyTag with a convolutional stem, ViT-B/16 and 5,813 tags at full size. Returns its card."""
    shape = SIZES[size]
    tags = shape.tags * 5813 // 9083
    config = {
        "class": "ViT",
        "n_tags": tags,
        "image_size": shape.image,
        "num_blocks": shape.depth,
        "patch_size": shape.patch,
        "d_model": shape.width,
        "mlp_dim": shape.hidden,
        "num_heads": shape.heads,
        "use_sine": True,
        "head_mean_after": False,
        "cnn_stem": STEM.format(width=shape.width),
    }
    folder = data / "joytag"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(network(config).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tags.txt").write_text("".join(f"tag_{n}\n" for n in range(tags)))
    return make_card(data, "joytag", shape.image, {"source": "./joytag", "kind": "joytag"})


def make_onnx(data: Path, size: str) -> Path:
    """The export of a SavedModel as bench.export builds it. Returns its card."""
    saved = data / "saved"
    # In a process that sees no GPU, as TensorFlow would keep that GPU's memory to itself.
    make = f"from bench.export import *; build(Path({str(saved)!r}), SIZES[{size!r}])"
    hidden = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    measure.script("-c", make, env=hidden)
    measure.script("export_sw.py", "--saved-model", saved, "--data", data)
    name = "wd-v1-4-vit-tagger-v2"
    fields: dict[str, str] = {"file": f"{name}.onnx", "tags": f"{name}.csv", "activation": "none"}
    return make_card(data, name, SIZES[size].image, fields)


def make_card(data: Path, like: str, side: int, fields: dict[str, str]) -> Path:
    """A TOML file with the image settings of a shipped model."""
    image = vars(cards.card(like).image) | {"size": side}
    base = {**CARD, "file": "model.safetensors", "tags": "tags.txt", "activation": "sigmoid"}
    path = data / f"bench-{like}.toml"
    path.write_text(toml({**base, **fields}, image))
    return path


def rate(work: Callable[[], object], images: int) -> float:
    """Images a second of one call."""
    return images / measure.seconds(work)


def run_models(
    chosen: Sequence[Tagger],
    ids: np.ndarray,
    data: DataFolder,
    args: argparse.Namespace,
    usage: "Usage",
) -> tuple[float, list[float]]:
    """Images a second of the pipeline, and of each network alone."""
    caches = [Cache.of(tagger, data, tagger.precision(args.device, "auto")) for tagger in chosen]
    for cache in caches:
        cache.forget()
    plans = [inference.Plan(cache, ids) for cache in caches]
    runners = inference.open_networks(plans, args.batch_size, args.device)
    alone = []
    for runner in runners:
        side, network = runner.tagger.image.size, runner.network
        batch = torch.zeros((runner.batch, side, side, 3), dtype=torch.uint8, device=args.device)
        ready = normalise(batch, runner.tagger.image)
        network.outputs(ready)  # The first call chooses kernels.
        steps = max(1, len(ids) // runner.batch // 2)
        alone.append(
            rate(lambda: [network.outputs(ready) for _ in range(steps)], steps * runner.batch)  # noqa: B023
        )
    with usage:
        return rate(lambda: inference.run(runners, args.workers, args.device), len(ids)), alone


def main() -> None:
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--images", type=int, default=4096)
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--size", default="full", choices=sorted(SIZES))
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    args.batch_size = min(args.batch_size, args.images)
    args.device = torch.device(args.device)
    where = torch.cuda.get_device_name() if args.device.type == "cuda" else "CPU"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime-gpu"))
    print(f"{where}, {args.workers} threads, batch {args.batch_size}, {packages}")
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), DataFolder(Path(name))
        data.resized.mkdir()
        data.metadata.mkdir()
        write_mappings(folder, [], [])
        mappings = TagMappings(data.metadata)
        distinct = make_images(folder, min(DISTINCT, args.images))
        ids = np.arange(1, args.images + 1)
        paths = [data.resized_image(post_id) for post_id in ids.tolist()]
        for number, path in enumerate(paths):
            path.hardlink_to(distinct[number % len(distinct)])
        cards_made = make_joytag(folder, args.size), make_onnx(folder, args.size)
        joytag, onnx = (models.tagger(str(path), data, mappings) for path in cards_made)

        def decode() -> None:
            with ThreadPoolExecutor(args.workers) as pool:
                list(pool.map(lambda path: Image.open(path).convert("RGB").size, paths))

        for label, chosen in (("JoyTag", [joytag]), ("ONNX", [onnx]), ("both", [joytag, onnx])):
            rounds = []
            usage = Usage(args.device)
            for _ in range(args.rounds):
                decoding = rate(decode, len(paths))
                pipeline, alone = run_models(chosen, ids, data, args, usage)
                rounds.append((pipeline, decoding, 1 / sum(1 / each for each in alone)))
            pipeline, decoding, alone_rate = (
                statistics.median(column) for column in zip(*rounds, strict=True)
            )
            limit = "decoding" if decoding < alone_rate else "the network"
            print(
                f"{label}: {pipeline:.0f} images a second, {pipeline / decoding:.2f} of decoding"
                f" alone, {pipeline / alone_rate:.2f} of the network alone; the limit is {limit};"
                f" GPU utilisation {usage.text()}"
            )


class Usage:
    """The GPU's utilisation while a block runs, from nvidia-smi twice a second."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: list[float] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> None:
        if self._device.type == "cuda":
            query = [
                "--query-gpu=utilization.gpu",
                "--format=csv,noheader,nounits",
                "-lms",
                "500",
                "-i",
                "0",
            ]
            self._process = subprocess.Popen(
                ["nvidia-smi", *query], stdout=subprocess.PIPE, text=True
            )

    def __exit__(self, *ended: object) -> None:
        if self._process:
            self._process.terminate()
            out, _ = self._process.communicate()
            self._seen += [float(line) for line in out.split() if line.isdigit()]

    def text(self) -> str:
        """The median, in per cent."""
        return f"{statistics.median(self._seen):.0f} %" if self._seen else "not measured"


if __name__ == "__main__":
    main()
