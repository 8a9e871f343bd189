"""JoyTag and an exported ONNX model at real size, with random weights, on a GPU: what is the limit.

    python -m bench.gpu                                 # both, one CUDA GPU
    python -m bench.gpu --only joytag
    python -m bench.gpu --device cpu --images 8 --batch-size 4 --rounds 1    # shows that it runs

Needs torch, NumPy, Pillow, safetensors and onnxruntime-gpu, no more, and takes any version of them.
JoyTag is its published config.json; the ONNX model is `vit_b16.onnx`, the export of a ViT-B/16 with
9,083 tags whose weights were left out (`python -m bench.skeleton` makes it) and are drawn here.

First the GPU's squares and scores are compared with the CPU's. Then, in turn, images a second of:
decoding alone and preprocessing alone, both in as many threads; each network alone on batches that
are ready; and validate.py's inference, with the GPU's use and memory meanwhile.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
try:
    import tqdm as _  # noqa: F401
except ImportError:  # A bare machine does without progress bars.

    class _Silent:
        def __init__(self, items: Any = None, **_: Any) -> None:
            self.items = items

        def __enter__(self) -> "_Silent":
            return self

        def __exit__(self, *ended: object) -> None:
            pass

        def update(self) -> None:
            pass

    sys.modules["tqdm"] = types.ModuleType("tqdm")
    sys.modules["tqdm"].tqdm = _Silent  # type: ignore[attr-defined]

from arena.data_folder import DataFolder
from arena.tagger import ImageSettings, Network, Origin
from arena.validate import distributed, inference
from arena.validate.predictions import Cache
from arena.validate.preprocess import decode, geometry, normalise, preprocess, webp_size
from bench.images import make_images
from models import card as cards
from models.card import ModelCard
from models.joytag import network as joytag_network
from models.tagger import CardTagger

import numpy as np
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
SKELETON = Path(__file__).parent / "vit_b16.onnx"
DISTINCT = 64  # Images; more posts are links to them.
TOLERANCE = 2e-3  # Of a score, between the GPU's usual precision and float32 on the CPU.
JOYTAG_IMAGE = cards.card("joytag").image
ONNX_IMAGE = cards.card("wd-v1-4-vit-tagger-v2").image


class RandomTagger(CardTagger):
    """A tagger whose weights were drawn here, so that nothing needs to be known of them."""

    def fingerprint(self, precision: str) -> str:
        """One for each name and precision."""
        return hashlib.sha256(f"{self.name} {precision}".encode()).hexdigest()

    def origin(self) -> Origin:
        """Nothing: what was drawn here has no source."""
        return {"weights": {}, "tags_file": {}, "card": "", "parameters": None, "file_size": 0}

    @property
    def _weight_files(self) -> list[Path]:
        """The files, without the look at where an ONNX file keeps weights, which needs onnx."""
        return cards.locate(self.card, self.data, *cards.weight_names(self.card))


def make_joytag(data: DataFolder) -> RandomTagger:
    """JoyTag as its config.json describes it."""
    config = json.loads((ROOT / "tests" / "real" / "joytag" / "config.json").read_text())
    torch.manual_seed(0)
    net = joytag_network(config)
    save_file(net.state_dict(), data.root / "joytag.safetensors")
    (data.root / "config.json").write_text(json.dumps(config))
    return make_tagger(data, "joytag", "joytag.safetensors", JOYTAG_IMAGE, config["n_tags"])


def make_onnx(data: DataFolder) -> RandomTagger:
    """The skeleton, with weights drawn as its list of them says."""
    tensors = json.loads(SKELETON.with_suffix(".json").read_text())
    rng = np.random.default_rng(0)
    with (data.root / "weights.bin").open("wb") as file:
        for count, mean, deviation in tensors["float32"]:
            file.write(rng.normal(mean, deviation, count).astype(np.float32).tobytes())
    (data.root / SKELETON.name).write_bytes(SKELETON.read_bytes())
    return make_tagger(data, "onnx", SKELETON.name, ONNX_IMAGE, tensors["tags"])


def make_tagger(
    data: DataFolder, name: str, file: str, image: ImageSettings, tags: int
) -> RandomTagger:
    """A tagger of a file in the data folder."""
    kind = "joytag" if name == "joytag" else "onnx"
    activation = "sigmoid" if kind == "joytag" else "none"
    card = ModelCard(name, Path(name), name, kind, ".", None, file, "", 0.5, image, activation)
    names = [f"tag_{number}" for number in range(tags)]
    return RandomTagger(card, data, names, ["general"] * tags)


def scores(network: Network, images: torch.Tensor, tagger: CardTagger) -> torch.Tensor:
    """The scores of some squares, on the CPU."""
    raw = network.outputs(normalise(images, tagger.image)).cpu()
    return torch.sigmoid(raw) if tagger.activation == "sigmoid" else raw


def compare(tagger: RandomTagger, paths: Sequence[Path], device: torch.device) -> str:
    """How far the GPU is from the CPU: grey levels of the squares, and scores."""
    wanted = geometry(tagger.image)
    precision = tagger.precision(device, "auto")
    found = []
    for where, exactness in ((torch.device("cpu"), "float32"), (device, precision)):
        with distributed.stream(where):
            made = [preprocess(path, [wanted], where) for path in paths]
            for each in made:
                if each.ready:
                    each.ready.synchronize()
            squares = torch.stack([each.squares[wanted] for each in made])
            found.append((squares.cpu(), scores(tagger.open(where, exactness), squares, tagger)))
    (there, exact), (here, rough) = found
    levels = int((here.int() - there.int()).abs().max())
    apart = float((rough - exact).abs().max())
    verdict = "fine" if levels <= 1 and apart <= TOLERANCE else "TOO FAR"
    return (
        f"{tagger.name} in {precision} against float32 on the CPU: squares up to {levels} levels"
        f" apart, scores up to {apart:.1e} (from {exact.min():.3f} to {exact.max():.3f}): {verdict}"
    )


def rate(work: Callable[[], object], images: int, device: torch.device) -> float:
    """Images a second of one call, to the end of what it starts on the GPU."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - began)


def decode_alone(path: Path) -> torch.Tensor:
    """The pixels of an image file."""
    raw = path.read_bytes()
    return decode(raw, webp_size(raw), torch.device("cpu"))


def measure(
    chosen: Sequence[RandomTagger],
    ids: np.ndarray,
    args: argparse.Namespace,
    usage: "Usage",
) -> dict[str, float]:
    """One round: images a second of each part alone, and of the whole."""
    device, data = args.device, chosen[0].data
    paths = [data.resized_image(post_id) for post_id in ids.tolist()]
    wanted = {geometry(tagger.image) for tagger in chosen}

    def in_threads(work: Callable[[Path], object]) -> float:
        with ThreadPoolExecutor(
            args.workers, initializer=distributed.start_thread, initargs=(device,)
        ) as pool:
            return rate(
                lambda: all(pool.map(lambda path: (work(path), True)[1], paths)), len(ids), device
            )

    found = {
        "decoding alone": in_threads(decode_alone),
        "preprocessing alone": in_threads(lambda path: preprocess(path, wanted, device)),
    }
    caches = [Cache.of(each, data, each.precision(device, "auto")) for each in chosen]
    for cache in caches:
        cache.forget()
    plans = [inference.Plan(cache, ids) for cache in caches]
    with distributed.stream(device):
        runners = inference.open_networks(plans, args.batch_size, device)
        alone = [network_rate(runner, len(ids), device) for runner in runners]
        found["networks alone"] = 1 / sum(1 / each for each in alone)
        with usage:
            found["all"] = rate(
                lambda: inference.run(runners, args.workers, device), len(ids), device
            )
    return found


def network_rate(runner: inference.Runner, images: int, device: torch.device) -> float:
    """Images a second of a network on batches that are ready, half as many as there are images."""
    side, settings = runner.tagger.image.size, runner.tagger.image
    batch = torch.zeros((runner.batch, side, side, 3), dtype=torch.uint8, device=device)
    ready = normalise(batch, settings)
    runner.network.outputs(ready)  # The first call chooses kernels.
    steps = max(1, images // runner.batch // 2)

    def run() -> None:
        for _ in range(steps):
            runner.network.outputs(ready)

    return rate(run, steps * runner.batch, device)


def main() -> None:
    """Build, compare, measure, print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", default="all", choices=["all", "joytag", "onnx", "both"])
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--images", type=int, default=4096)
    options.add_argument("--batch-size", type=int, default=inference.GPU_BATCH)
    options.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    args.batch_size = min(args.batch_size, args.images)
    args.device = distributed.pick_device(args.device)
    print(about(args), flush=True)
    with tempfile.TemporaryDirectory() as name:
        data = DataFolder(Path(name))
        data.resized.mkdir()
        distinct = make_images(data.root, min(DISTINCT, args.images))
        ids = np.arange(1, args.images + 1)
        for post_id in ids.tolist():
            data.resized_image(post_id).hardlink_to(distinct[post_id % len(distinct)])
        makers = {"joytag": make_joytag, "onnx": make_onnx}
        kinds = [args.only] if args.only in makers else list(makers)
        taggers = {kind: makers[kind](data) for kind in kinds}
        for tagger in taggers.values():
            print(compare(tagger, distinct[:4], args.device), flush=True)
        sets = {kind: [tagger] for kind, tagger in taggers.items() if args.only != "both"}
        if len(taggers) > 1:
            sets["both"] = list(taggers.values())
        for label, chosen in sets.items():
            usage = Usage(args.device)
            rounds = [measure(chosen, ids, args, usage) for _ in range(args.rounds)]
            print(told(label, rounds, usage), flush=True)


def about(args: argparse.Namespace) -> str:
    """The machine and the versions, in a line."""
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow", "safetensors"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    where = distributed.device_name(args.device)
    return (
        f"{where}, {len(os.sched_getaffinity(0))} cores, {args.workers} threads, batch"
        f" {args.batch_size}, {args.images} images, {args.rounds} rounds, {', '.join(versions)}"
    )


def told(label: str, rounds: Sequence[dict[str, float]], usage: "Usage") -> str:
    """The medians of all rounds, in a line."""
    median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    pipeline = median.pop("all")
    slowest = min(median, key=lambda key: median[key])
    floors = ", ".join(f"{key} {value:.1f}" for key, value in median.items())
    return (
        f"{label}: {pipeline:.1f} images a second, {pipeline / median[slowest]:.2f} of the slowest"
        f" floor, {slowest} ({floors}); {usage.text()}"
    )


class Usage:
    """The GPU's use and memory while a block runs, from nvidia-smi five times a second."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._busy: list[float] = []
        self._megabytes: list[float] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> None:
        query = "--query-gpu=utilization.gpu,memory.used"
        command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "200", "-i", "0"]
        if self._device.type == "cuda":
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __exit__(self, *ended: object) -> None:
        if self._process:
            self._process.terminate()
            out, _ = self._process.communicate()
            for line in out.splitlines():
                fields = line.split(",")
                if len(fields) == 2 and all(field.strip().isdigit() for field in fields):
                    self._busy.append(float(fields[0]))
                    self._megabytes.append(float(fields[1]))

    def text(self) -> str:
        """The median of its use and the peak of its memory."""
        if not self._busy:
            return "the GPU's use was not measured"
        busy, memory = statistics.median(self._busy), max(self._megabytes) / 1000
        return f"GPU {busy:.0f} % busy, at most {memory:.1f} GB"


if __name__ == "__main__":
    main()
