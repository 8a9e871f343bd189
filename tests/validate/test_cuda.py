"""The path that a GPU takes, on a GPU in name only: streams, events, devices, options, errors."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import validate as script
from arena.cli import UserError
from arena.validate import distributed, preprocess, resample
from arena.validate.distributed import explain_gpu_errors, pick_device
from demo.tiny import make_data, make_model
from models import onnx as models_onnx
from tests.helpers import Ended, refused
from tests.validate.fake_cuda import Binding, Gpu, RaceError, array_at, watched
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, saved, validate

import numpy as np
import onnxruntime
import pytest
import torch

CPU_SESSION = onnxruntime.InferenceSession


class Session:
    """ONNX Runtime on a CPU, that calls itself CUDA and tells what it was asked for."""

    asked: ClassVar[list[Any]] = []
    fits = 1000  # Images that its memory is enough for.

    def __init__(self, path: Path, options: Any, providers: Any, **more: Any) -> None:
        Session.asked.append((options, providers))
        self._session = CPU_SESSION(path, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self._session.get_inputs, self._session.get_outputs
        self.io_binding = Binding

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        name, device, number, _, shape, at = binding.bound["input"]
        assert (device, number) == ("cuda", 1)
        if shape[0] > Session.fits:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        (scores,) = self._session.run(None, {name: array_at(at, shape)})
        _, device, number, _, shape, at = binding.bound["output"]
        assert (device, number) == ("cuda", 1)
        array_at(at, shape)[:] = scores


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    """The second GPU of two, as process 1 of 2 on a machine sees it, though it is alone here."""
    Session.asked, Session.fits = [], 1000
    caches = resample._filter, resample._pass, preprocess._plan
    for cached in caches:
        cached.cache_clear()
    yield Gpu(1)
    for cached in caches:
        cached.cache_clear()


@contextlib.contextmanager
def used(gpu: Gpu) -> Iterator[None]:
    """The time in which the GPU is there."""
    with watched(gpu), pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", Session)
        patch.setattr(onnxruntime, "preload_dlls", lambda: print("no CUDA here"))
        patch.setattr(distributed, "local_rank", lambda: 1)
        yield
    gpu.check_freed()


def on_gpu(gpu: Gpu, data: Path, *cards: Path, more: tuple[object, ...] = ()) -> Ended:
    with used(gpu):
        return validate(data, *cards, more=(*QUICK, *more))


def folder(path: Path) -> list[Path]:
    make_data(path, 21)
    return [
        make_model(path, "area", TAGS),
        make_model(
            path, "bicubic", TAGS, card={"activation": "sigmoid"}, image=LOGITS_IMAGE, logits=True
        ),
    ]


def test_the_path_of_a_gpu_gives_the_scores_of_a_cpu_without_a_race(
    tmp_path: Path, gpu: Gpu
) -> None:
    cards = folder(tmp_path)
    ended = validate(tmp_path, *cards)
    assert ended.code == 0, ended.err
    expected = {name: saved(tmp_path, name)["predictions"] for name in ("area", "bicubic")}
    ended = on_gpu(gpu, tmp_path, *cards, more=("--fresh", "--precision", "float32"))
    assert ended.code == 0, ended.err
    first = ended.out.splitlines()[0]
    assert first == "Device: Fake GPU. Precision: Tiny in float32, Tiny in float32"
    assert "no CUDA here" not in ended.out
    for name, scores in expected.items():
        np.testing.assert_allclose(saved(tmp_path, name)["predictions"], scores, atol=1e-6)
    assert -1 in gpu.priorities and 0 in gpu.priorities
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["device"] == "Fake GPU"
    assert {each["precision"] for each in results["models"]} == {"float32"}
    for each in results["models"]:
        (speed,) = each["speed"]
        assert (speed["device"], speed["posts"], speed["batch"]) == ("Fake GPU", 21, 32)
        assert speed["seconds"] > 0 and speed["gpu_memory"] > 0
    for options, providers in Session.asked:
        name, asked = providers[0]
        assert name == "CUDAExecutionProvider"
        assert int(asked.pop("user_compute_stream")) > 0
        assert asked == {
            "device_id": "1",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        }
        assert options.intra_op_num_threads == 1


FAKE = "tests.validate.fake_cuda"
START = "arena.validate.distributed.start_thread"
MUTATIONS: dict[str, tuple[str, Any, str]] = {
    "no wait for squares": (f"{FAKE}.Stream.wait_event", lambda *_: None, "has not waited"),
    "no wait for scores": (f"{FAKE}.Event.synchronize", lambda *_: None, "the host reads"),
    "no record_stream": (f"{FAKE}.record", lambda *_: None, "without record_stream"),
    "no device": (START, lambda _: None, "which GPU"),
    "the first device": (START, lambda _: torch.cuda.set_device(torch.device("cuda", 0)), "which"),
    "no pinned memory": (f"{FAKE}.pin", lambda _: False, "not pinned"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_watch_sees_what_is_lacking(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch, mutation: str
) -> None:
    cards = folder(tmp_path)
    target, value, words = MUTATIONS[mutation]
    monkeypatch.setattr(target, value)
    argv = ["validate.py", "--data", tmp_path, "--models", ",".join(map(str, cards)), *QUICK]
    monkeypatch.setattr("sys.argv", list(map(str, argv)))
    with pytest.raises(RaceError, match=words), used(gpu):
        script.main()


def test_batches_too_large_for_the_memory_are_halved_and_it_is_told_once(
    tmp_path: Path, gpu: Gpu
) -> None:
    (card, _) = folder(tmp_path)
    Session.fits = 5
    ended = on_gpu(gpu, tmp_path, card)
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if "memory" in line]
    assert len(told) == 1 and "32" in told[0] and "--batch-size 4" in told[0]
    ids = saved(tmp_path, "area")["post_ids"]
    assert ids.tolist() == sorted({*ids.tolist()}) and len(ids) == 21


def test_memory_too_small_for_one_image_is_one_line(tmp_path: Path, gpu: Gpu) -> None:
    (card, _) = folder(tmp_path)
    Session.fits = 0
    refused(on_gpu(gpu, tmp_path, card), "memory", "even for one image", "--device cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_last_batch_is_filled_up(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    (card, _) = folder(tmp_path)
    sizes = []
    outputs = models_onnx.OnnxNetwork.outputs

    def counted(network: Any, images: torch.Tensor, padding: Any) -> torch.Tensor:
        sizes.append(len(images))
        return outputs(network, images, padding)

    monkeypatch.setattr(models_onnx.OnnxNetwork, "outputs", counted)
    more = (*QUICK, "--batch-size", 8)
    ended = (
        on_gpu(gpu, tmp_path, card, more=more)
        if device == "cuda"
        else validate(tmp_path, card, more=more)
    )
    assert ended.code == 0, ended.err
    assert sizes == [8, 8, 8]
    assert len(saved(tmp_path, "area")["post_ids"]) == 21


def test_cuda_that_onnx_runtime_cannot_load_is_one_line_with_its_words(
    tmp_path: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    (card, _) = folder(tmp_path)
    monkeypatch.setattr(Session, "get_providers", lambda _: ["CPUExecutionProvider"])
    refused(on_gpu(gpu, tmp_path, card), "could not load CUDA (no CUDA here)", "--device cpu")


class Cuda:
    """What torch says of CUDA on a machine: whether it is there, and a warning."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._file = patch, folder / "version"
        patch.setattr(distributed, "DRIVER_FILE", self._file)
        patch.setattr(torch.version, "cuda", "13.0")
        self.says("")

    def says(self, warning: str, there: bool = False) -> None:
        def available() -> bool:
            if warning:
                warnings.warn(warning, stacklevel=1)
            return there

        self._patch.setattr(torch.cuda, "is_available", available)

    def driver(self, version: str) -> None:
        self._file.write_text(
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Wed May 1 2024\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1)\n"
        )


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cuda:
    return Cuda(monkeypatch, tmp_path)


OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12040)."
    " Please update your GPU driver"
)


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "warning", "words"),
    [
        ("550.54.14", "13.0", OLD, ("550.54.14", "580", "update")),
        ("580.65.06", None, "", ("580.65.06", "no CUDA", "requirements.txt")),
        ("580.65.06", "13.0", "CUDA unknown error\nmore", ("CUDA unknown error", "nvidia-smi")),
        ("595.10", "13.0", "", ("595.10", "finds no GPU", "CUDA_VISIBLE_DEVICES")),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_said(
    cuda: Cuda,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    driver: str,
    torch_cuda: str | None,
    warning: str,
    words: tuple[str, ...],
) -> None:
    cuda.driver(driver)
    cuda.says(warning)
    monkeypatch.setattr(torch.version, "cuda", torch_cuda)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's own warning is not let through.
        assert pick_device("auto") == torch.device("cpu")
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: it runs on the CPU")
        assert all(word in line for word in words), line
        with pytest.raises(UserError) as refused:
            pick_device("cuda")
    assert all(word in str(refused.value) for word in (*words, "--device cpu"))


def test_without_a_gpu_nothing_is_said(cuda: Cuda, capsys: pytest.CaptureFixture[str]) -> None:
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="no NVIDIA GPU here: give --device cpu"):
        pick_device("cuda")


def test_a_gpu_that_is_taken_is_one_line(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.says("", there=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def taken(_: object) -> None:
        raise torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy\nmore")

    monkeypatch.setattr(torch.cuda, "set_device", taken)
    with pytest.raises(UserError, match=r"busy.*nvidia-smi.*--device cpu"):
        pick_device("auto")


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access\nCUDA kernel errors might"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA driver error: invalid argument"),
        RuntimeError("NVRTC_ERROR_COMPILATION"),
    ],
)
def test_a_gpu_that_fails_is_one_line(error: Exception) -> None:
    with pytest.raises(UserError) as told, explain_gpu_errors():
        raise error
    assert str(error).splitlines()[0] in str(told.value)
    assert "\n" not in str(told.value) and "--device cpu" in str(told.value)


def test_a_defect_of_ours_is_not_called_the_gpus() -> None:
    with pytest.raises(RuntimeError, match="shape"), explain_gpu_errors():
        raise RuntimeError("shape mismatch")
