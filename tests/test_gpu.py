"""On a machine with a CUDA GPU: the same pixels and scores as on its CPU, flat memory, no races."""

from pathlib import Path

from arena.data_folder import DataFolder
from arena.tagger import Network
from arena.validate import distributed
from arena.validate.preprocess import Geometry, preprocess
from danbooru_metadata import TagMappings
from demo.tiny import make_data, make_model
from models.tagger import tagger
from tests.helpers import run
from tests.models.joytag_oracle import CONFIG
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, ok, saved
from tests.validate.test_precision import joytag

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here"),
]
CPU = torch.device("cpu")
SIZES = [(1024, 700), (700, 1024), (1023, 517), (1, 1024), (40, 30), (448, 448)]


def open_both(data: Path, card: Path, precision: str) -> tuple[Network, Network]:
    """A tagger's network on the CPU in float32, and on the GPU."""
    folder = DataFolder(data)
    found = tagger(str(card), folder, TagMappings(folder.metadata))
    gpu = distributed.pick_device("cuda")
    return found.open(CPU, "float32"), found.open(gpu, precision)


@pytest.mark.parametrize("size", SIZES)
def test_squares_are_the_cpus(tmp_path: Path, size: tuple[int, int]) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.webp", "WEBP", lossless=True)
    wanted = [Geometry(448, "square", "bicubic"), Geometry(448, "at_least", "area")]
    gpu = distributed.pick_device("cuda")
    on_cpu = preprocess(tmp_path / "1.webp", wanted, CPU)
    on_gpu = preprocess(tmp_path / "1.webp", wanted, gpu)
    assert on_gpu.ready is not None
    on_gpu.ready.synchronize()
    for each in wanted:
        np.testing.assert_array_equal(on_gpu.squares[each].cpu(), on_cpu.squares[each])


@pytest.mark.parametrize("precision", ["float32", "float16", "tf32"])
def test_scores_are_near_those_of_float32_on_the_cpu(tmp_path: Path, precision: str) -> None:
    make_data(tmp_path, 2)
    kinds = {
        "float16": joytag(tmp_path),
        "tf32": make_model(tmp_path, "a", TAGS, image=LOGITS_IMAGE, logits=True),
    }
    for card in kinds.values() if precision == "float32" else [kinds[precision]]:
        side = CONFIG["image_size"] if card.stem == "joy" else 32
        images = torch.from_numpy(
            np.random.default_rng(0).normal(0, 1, (32, 3, side, side)).astype(np.float32)
        )
        with distributed.stream(distributed.pick_device("cuda")):
            on_cpu, on_gpu = open_both(tmp_path, card, precision)
            expected = torch.sigmoid(on_cpu.outputs(images))
            found = torch.sigmoid(on_gpu.outputs(images.cuda()).cpu())
        atol = 1e-5 if precision == "float32" else 2e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_memory_stays_flat(tmp_path: Path) -> None:
    make_data(tmp_path, 2)
    cards = joytag(tmp_path), make_model(tmp_path, "a", TAGS, image=LOGITS_IMAGE, logits=True)
    for card in cards:
        side = CONFIG["image_size"] if card.stem == "joy" else 32
        with distributed.stream(distributed.pick_device("cuda")):
            _, network = open_both(tmp_path, card, "float32")
            free = []
            for _ in range(20):
                network.outputs(torch.zeros((32, 3, side, side), device="cuda")).cpu()
                free.append(torch.cuda.mem_get_info()[0])
        assert free[-1] >= free[2]


def test_a_run_gives_the_scores_of_the_cpu(tmp_path: Path) -> None:
    make_data(tmp_path, 70)
    cards = [
        joytag(tmp_path),
        make_model(tmp_path, "a", TAGS),
        make_model(
            tmp_path, "b", TAGS, image=LOGITS_IMAGE, logits=True, card={"activation": "sigmoid"}
        ),
    ]
    scores = {}
    for device, sanitizer in (("cpu", "0"), ("cuda", "0"), ("cuda", "1")):
        ended = ok(
            run(
                "validate.py",
                *("--data", tmp_path, "--models", ",".join(map(str, cards)), *QUICK),
                *("--device", device, "--precision", "float32", "--fresh", "--workers", 4),
                env={"TORCH_CUDA_SANITIZER": sanitizer} if sanitizer == "1" else None,
            )
        )
        assert "CSAN" not in ended.err + ended.out
        scores[device, sanitizer] = [saved(tmp_path, card.stem)["predictions"] for card in cards]
    for found in (scores["cuda", "0"], scores["cuda", "1"]):
        for on_gpu, on_cpu in zip(found, scores["cpu", "0"], strict=True):
            np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-5)
