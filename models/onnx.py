"""Any tagger in one ONNX file, run by ONNX Runtime."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

from arena.cli import UserError
from arena.files import fresh
from models.card import ModelCard, remedy

import numpy as np
import onnxruntime
import torch

# Types of inputs and outputs, as ONNX Runtime names them.
TORCH = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(uint8)": torch.uint8,
}
NUMPY = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
FLOATS = ("tensor(float)", "tensor(float16)")
FATAL = 4  # Of ONNX Runtime's log: what is an error there comes as an exception as well.
onnxruntime.set_default_logger_severity(FATAL)
# How ONNX Runtime, cuBLAS and cuDNN say that a GPU's memory is too small.
OUT_OF_MEMORY = re.compile("Failed to allocate|out of memory|ALLOC_FAILED|bad allocation")
# What stands around the sentence that says why: ONNX Runtime's own files and functions, and the
# machine's name.
PLACES = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?"
    r"|\S+\.(?:cc|cpp|h|cu|cuh):\d+ (?:[\w ]*?\S*::[^(]*(?:\((?:[^()]|\([^()]*\))*\)\S*)+ |\w+ )"
    r"| ?; (?:file|line|hostname)=\S+"
)
LONGEST_REASON = 1000  # Characters: names in a file may be of any length.


class OnnxNetwork:
    """An ONNX Runtime session whose input and output fit the model's card.

    On a GPU it works on the stream that is torch's current one when it is made, on input and output
    where they are, and does not wait for the end. Raises UserError naming the model and the key to
    change when they do not fit.
    """

    def __init__(
        self, model: ModelCard, path: Path, tags: int, device: torch.device, precision: str
    ) -> None:
        self._session = _session(model, path, device, precision)
        self._input, self._mask, self._output = _checked(model, self._session, tags)
        first = self._input.shape[0]
        self.batch: int | None = first if isinstance(first, int) and first > 0 else None
        self.wants_padding = self._mask is not None
        self._name, self._tags = model.name, tags
        self._device = device

    def outputs(self, images: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """As arena.tagger.Network says."""
        on_gpu = self._device.type == "cuda"
        number, options = self._device.index or 0, onnxruntime.RunOptions()
        binding = self._session.io_binding()
        given = [(self._input, images.to(TORCH[self._input.type]))]
        if self._mask is not None and padding is not None:
            given.append((self._mask, padding))
        for node, tensor in given:
            kind, shape = NUMPY[node.type], tuple(tensor.shape)
            place = (node.name, self._device.type, number, kind, shape)
            binding.bind_input(*place, tensor.data_ptr())
        if on_gpu:
            form = (len(images), self._tags)
            scores = images.new_empty(form, dtype=TORCH[self._output.type])
            answer = (self._output.name, "cuda", number, NUMPY[self._output.type])
            binding.bind_output(*answer, tuple(scores.shape), scores.data_ptr())
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        else:
            binding.bind_output(self._output.name, "cpu")
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # As in _session. Memory is what runs out while it works.
            if on_gpu and OUT_OF_MEMORY.search(str(error)):
                raise torch.OutOfMemoryError(_reason(error)) from None
            raise UserError(
                f"{self._name}: ONNX Runtime failed on a batch of {len(images)} images"
                f" ({_reason(error)}): if memory ran out, lower --batch-size"
            ) from None
        if not on_gpu:
            scores = torch.from_numpy(np.asarray(binding.copy_outputs_to_cpu()[0]))
        # Other types than the card's are for the caller to refuse.
        return scores.float() if scores.dtype == torch.float16 else scores


def cuda_options(device: torch.device, precision: str) -> dict[str, str]:
    """What ONNX Runtime's CUDA provider is asked for.

    torch's current stream, so that neither waits for the other; memory as it is needed, not in
    doubled steps, as others need it too; and convolutions chosen by rule: trying them all takes
    long for every new batch size.
    """
    return {
        "device_id": str(device.index or 0),
        "user_compute_stream": str(torch.cuda.current_stream(device).cuda_stream),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": str(int(precision == "tf32")),
    }


def _session(
    model: ModelCard, path: Path, device: torch.device, precision: str
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    loading = io.StringIO()  # What it prints when CUDA's libraries do not load.
    if device.type == "cuda":
        options.intra_op_num_threads = 1  # The threads that decode images need the cores.
        with redirect_stdout(loading):
            onnxruntime.preload_dlls()
        providers.insert(0, ("CUDAExecutionProvider", cuda_options(device, precision)))
    try:
        # Without fallback: it would go on on the CPU, and say so in a block of red.
        session = onnxruntime.InferenceSession(
            path, options, providers=providers, enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class below Exception.
        raise UserError(
            f"{model.name}: {path} cannot be loaded ({_reason(error)}): {remedy(model, 'file')};"
            f" if it is damaged, {fresh(path)}"
        ) from None
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        words = " ".join(loading.getvalue().split())[:300]
        why = f" ({words})" if words else ""
        raise UserError(
            f"{model.name}: there is a GPU, but ONNX Runtime could not load CUDA{why}: install"
            " requirements.txt anew, as torch brings CUDA's libraries, or give --device cpu"
        )
    return session


def _checked(
    model: ModelCard, session: onnxruntime.InferenceSession, tags: int
) -> tuple[onnxruntime.NodeArg, onnxruntime.NodeArg | None, onnxruntime.NodeArg]:
    """The session's input, that of the padding, and output, if they are what the card says."""
    given, mask = _inputs(model, session.get_inputs())
    size = model.image.size
    wanted = [3, size, size] if model.image.layout == "nchw" else [size, size, 3]
    shape = given.shape
    # Dimensions that are no int are symbolic: any value fits.
    fits = len(shape) == 4 and all(
        not isinstance(dim, int) or dim == want
        for dim, want in zip(shape[1:], wanted, strict=False)
    )
    if not fits:
        other = len(shape) == 4 and (shape[1] == 3) != (model.image.layout == "nchw")
        key = "image.layout" if other else "image.size"
        raise UserError(
            f"{model.name}: the network takes images {_text(shape)}, the card makes"
            f" {_text(['n', *wanted])}: change '{key}' in {model.path}"
        )
    return given, mask, _output(model, session.get_outputs(), tags)


def _inputs(
    model: ModelCard, inputs: list[onnxruntime.NodeArg]
) -> tuple[onnxruntime.NodeArg, onnxruntime.NodeArg | None]:
    """The input of images, and that of the padding where the card has one."""
    masks = [node for node in inputs if node.name == model.mask]
    images = [node for node in inputs if node.name != model.mask]
    if model.mask is not None and not masks:
        raise UserError(
            f"{model.name}: the network has no input '{model.mask}', but {_all(inputs)}:"
            f" {remedy(model, 'mask')}"
        )
    if len(images) != 1:
        names = ", ".join(node.name for node in images)
        raise UserError(
            f"{model.name}: the network wants one input of images, this has {names}: one that marks"
            f" padding is named by 'mask' in {model.path}"
        )
    if masks and (masks[0].type != "tensor(bool)" or len(masks[0].shape) != 3):
        raise UserError(
            f"{model.name}: the network's input {_all(masks)} is not bool (n, height, width):"
            f" {remedy(model, 'mask')}"
        )
    (given,) = images
    if given.type not in TORCH:
        raise UserError(
            f"{model.name}: the network's input is {given.type}, not float32, float16 or uint8:"
            " export it with one of these (key 'file')"
        )
    whole = (model.image.scale, *model.image.mean, *model.image.std) == (1, 0, 0, 0, 1, 1, 1)
    if given.type == "tensor(uint8)" and not whole:
        raise UserError(
            f"{model.name}: the network takes whole pixels (uint8), and the card scales them: set"
            f" image.scale = 1, image.mean = [0, 0, 0] and image.std = [1, 1, 1] in {model.path}"
        )
    return given, masks[0] if masks else None


def _output(model: ModelCard, outputs: list[onnxruntime.NodeArg], tags: int) -> onnxruntime.NodeArg:
    """The card's output, or else the only one that can hold a score for every tag."""
    if model.output is not None:
        named = [output for output in outputs if output.name == model.output]
        if not named:
            raise UserError(
                f"{model.name}: the network has no output '{model.output}', but {_all(outputs)}:"
                f" {remedy(model, 'output')}"
            )
        outputs = named
    scores = [output for output in outputs if output.type in FLOATS and len(output.shape) == 2]
    if not scores:
        raise UserError(
            f"{model.name}: the network's output is {_all(outputs)}, not float32 or float16"
            f" (n, tags): {remedy(model, 'file')}"
        )
    fitting = [output for output in scores if output.shape[1] == tags]
    # A width that is no number is symbolic: it may turn out to be that of the tags.
    fitting += [output for output in scores if not isinstance(output.shape[1], int)]
    if not fitting:
        widths = " and ".join(str(output.shape[1]) for output in scores)
        raise UserError(
            f"{model.name}: the network has {widths} outputs, but {model.tags} has {tags} tags:"
            f" {remedy(model, 'tags', 'file')}"
        )
    if len(fitting) > 1:
        raise UserError(
            f"{model.name}: any of the network's outputs {_all(fitting)} may hold the scores of the"
            f" {tags} tags in {model.tags}: say which with 'output' in {model.path}"
        )
    return fitting[0]


def _all(outputs: list[onnxruntime.NodeArg]) -> str:
    """Outputs for a message: name, type and shape of each."""
    return " and ".join(f"'{each.name}' {each.type} {_text(each.shape)}" for each in outputs)


def _reason(error: Exception) -> str:
    """Why, in ONNX Runtime's own words on one line, without where in its sources it came up."""
    return PLACES.sub("", " ".join(str(error)[:5000].split()))[:LONGEST_REASON]


def _text(shape: list[int | str]) -> str:
    return f"({', '.join(str(dim) for dim in shape)})"
