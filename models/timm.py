"""Networks of the timm library: a config.json names the architecture, safetensors hold the weights.

timm only builds the network, from numbers, words and switches in a stated set of its arguments: it
is never asked for weights, so it opens no file and no connection. The keys of config.json are those
that timm's push_to_hf_hub writes and its `hf-hub:` names read (timm/models/_hub.py, version 1.0).
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from arena.cli import UserError
from models import weights
from models.card import ModelCard, remedy
from models.torch_network import TorchNetwork
from models.weights import short

import torch
from torch import nn

# The arguments that may be given, and the largest number in each: those that shape a network. What
# loads, writes or calls anything is none of them (pretrained, checkpoint_path, cache_dir, …).
SIZES = {
    **dict.fromkeys(("depth", "depths", "layers"), 256),
    **dict.fromkeys(("num_heads", "num_kv_heads", "reg_tokens", "num_reg_tokens"), 1024),
    **dict.fromkeys(("img_size", "patch_size", "window_size", "window_sizes"), 4096),
    **dict.fromkeys(("pretrained_window_sizes", "ref_feat_shape", "kernel_sizes"), 4096),
    **dict.fromkeys(("embed_dim", "embed_dims", "dims", "num_features"), 16384),
    **dict.fromkeys(("head_hidden_size", "stem_width", "base_width", "cardinality"), 16384),
    **dict.fromkeys(("num_classes", "in_chans"), 1_000_000),
}
OTHERS = """
    act_layer norm_layer norm_layers aa_layer se_layer attn_layer mlp_layer embed_layer norm_eps
    mlp_act mlp_bias mlp_ratio mlp_ratios swiglu_mlp swiglu_align_to conv_mlp conv_bias use_grn
    qkv_bias qkv_fused qk_norm proj_bias scale_attn_norm scale_attn_inner scale_mlp_norm scale_mlp
    init_values ls_init_value layer_scale_init_value layer_scale_init_values res_scale_init_values
    pre_norm final_norm fc_norm use_fc_norm use_post_norm use_pre_transformer_norm
    use_post_transformer_norm attn_type class_token no_embed_class pos_embed use_abs_pos_emb
    use_rot_pos_emb use_rel_pos_bias use_shared_rel_pos_bias rope_type rope_grid_offset
    rope_grid_indexing rope_temperature rope_rotate_half dynamic_img_size dynamic_img_pad
    strict_img_size always_partition global_pool pool_include_prefix use_mlp_head head_init_scale
    head_norm_first head_norm head_bias stem_type fix_stem avg_down replace_stem_pool
    down_kernel_size block_reduce_first output_stride pad_type weight_init fix_init zero_init_last
    drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate
    drop_block_rate
"""
ARGUMENTS = dict.fromkeys(OTHERS.split(), 65536) | SIZES
MAX_LIST = 64
MAX_TABLES = 2**30  # Bytes of what a network works out itself, such as the indices of windows.


class Images(NamedTuple):
    """What a config.json says of a network's images: nothing where it is empty or None."""

    sizes: frozenset[int]
    mean: list[float] | None
    std: list[float] | None


def arguments(config: dict[str, Any], path: Path) -> tuple[dict[str, Any], Images]:
    """What timm.create_model is to be given for a config.json at `path`, and its images.

    As timm does for a published model: an image size that pretrained_cfg fixes is one of them.
    Raises UserError that names the file and the key.
    """
    name = config.get("architecture")
    plain = isinstance(name, str) and re.fullmatch(r"[\w.]{1,100}", name, re.ASCII)
    _require(plain, path, "architecture", f"is {short(name)}, not the name of an architecture")
    given = _model_args(config, path)
    # Old files have what pretrained_cfg says beside the architecture.
    about = _table(config, "pretrained_cfg", path) if "pretrained_cfg" in config else config
    classes = given.get("num_classes", config.get("num_classes", about.get("num_classes")))
    fine = type(classes) is int and 1 <= classes <= SIZES["num_classes"]
    _require(fine, path, "num_classes", f"is {short(classes)}, not the number of outputs")
    _require(given.get("in_chans", 3) == 3, path, "model_args.in_chans", "is not 3")
    own = _side(given.get("img_size"), "model_args.img_size", path)
    sides = [
        _side(about.get(key), f"pretrained_cfg.{key}", path)
        for key in ("input_size", "test_input_size")
    ]
    any_size = given.get("dynamic_img_size") or given.get("strict_img_size") is False
    fixed = about.get("fixed_input_size") is True and not any_size
    # A table of its own, even if it says nothing: else timm takes that of its published weights.
    known = {"input_size": (3, sides[0] or 224, sides[0] or 224), "fixed_input_size": fixed}
    stated = [own] if own is not None and not any_size else [own, *sides]
    sizes = frozenset(side for side in stated if side is not None)
    images = Images(sizes, _three(about, "mean", path), _three(about, "std", path))
    return {**given, "model_name": name, "num_classes": classes, "pretrained_cfg": known}, images


def _model_args(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """config.json's model_args, all of them ones that may be given."""
    given = _table(config, "model_args", path)
    for key, value in given.items():
        if key not in ARGUMENTS:
            raise UserError(
                f"{path}: 'model_args' has {short(key)}, which is none of timm's arguments that"
                " shape a network: remove it there"
            )
        problem = f"is {short(value)}, no switch, word, number to {ARGUMENTS[key]} or list of them"
        _require(_is_plain(value, ARGUMENTS[key]), path, f"model_args.{key}", problem)
    return {key: value for key, value in given.items() if value is not None}


def _require(holds: object, path: Path, key: str, problem: str) -> None:
    if not holds:
        raise UserError(
            f"{path}: '{key}' {problem}: set it to what the weights were trained with, as timm's"
            " push_to_hf_hub writes it"
        )


def _is_plain(value: Any, largest: int) -> bool:
    """Whether a value is a switch, nothing, a word, a number that is not too large, or a list."""
    if isinstance(value, list):
        flat = not any(isinstance(each, list) for each in value)
        return flat and len(value) <= MAX_LIST and all(_is_plain(each, largest) for each in value)
    if isinstance(value, str):
        return re.fullmatch(r"\w{0,64}", value, re.ASCII) is not None
    return value is None or (isinstance(value, int | float) and abs(value) <= largest)


def _table(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    table = config.get(key) or {}
    _require(isinstance(table, dict), path, key, f"is {short(table)}, not an object")
    return dict(table)


def _side(size: Any, key: str, path: Path) -> int | None:
    """The side of a size that is a number, [side, side] or [3, side, side]; None of no size."""
    if size is None:
        return None
    numbers = size if isinstance(size, list) else [size]
    fine = (
        len(numbers) in (1, 2, 3) and numbers[:-2] in ([], [3]) and numbers[-1] == numbers[-2:][0]
    )
    fine = fine and type(numbers[-1]) is int and 1 <= numbers[-1] <= SIZES["img_size"]
    _require(fine, path, key, f"is {short(size)}, no square of 3 channels")
    return int(numbers[-1])


def _three(about: dict[str, Any], key: str, path: Path) -> list[float] | None:
    """The three numbers of a pretrained_cfg's mean or std, None where it is not said."""
    values = about.get(key)
    if values is None:
        return None
    fine = isinstance(values, list) and len(values) == 3
    fine = fine and all(type(value) in (int, float) and abs(value) < 1000 for value in values)
    _require(fine, path, f"pretrained_cfg.{key}", f"is {short(values)}, not three numbers")
    return [float(value) for value in values]


def check_card(model: ModelCard, tags: int, classes: int, images: Images, path: Path) -> None:
    """Raise UserError, naming the key, where a card contradicts the config.json at `path`."""

    def agree(fine: bool, theirs: str, *keys: str) -> None:
        if not fine:
            raise UserError(f"{model.name}: {path} calls for {theirs}: {remedy(model, *keys)}")

    ours = model.image
    outputs = f"{classes} outputs, but {model.tags} has {tags} tags"
    agree(classes == tags, outputs, "tags", "file")
    agree(
        model.activation == "sigmoid", 'activation = "sigmoid", as timm gives logits', "activation"
    )
    agree(ours.layout == "nchw", 'layout = "nchw"', "image.layout")
    wanted = " or ".join(str(size) for size in sorted(images.sizes))
    agree(not images.sizes or ours.size in images.sizes, f"images of size {wanted}", "image.size")
    for key, mine, theirs in (("mean", ours.mean, images.mean), ("std", ours.std, images.std)):
        if theirs is not None:
            # timm's are of values from 0 to 1.
            scaled = [value / (255 * ours.scale) for value in mine]
            pairs = zip(scaled, theirs, strict=True)
            fine = all(math.isclose(one, other, abs_tol=1e-3) for one, other in pairs)
            agree(fine, f'{key} {theirs} with scale = "1/255"', f"image.{key}", "image.scale")


def load(path: Path, model: ModelCard, tags: int) -> nn.Module:
    """The network of a safetensors file and the config.json beside it, in float32, for inference.

    Memory is taken only for tensors that are in the file with the shape that config.json calls for.
    Raises UserError that names the file and, where one is at fault, the key or tensor; and where
    timm is not installed.
    """
    config = path.with_name("config.json")
    given, images = arguments(weights.read_config(config), config)
    check_card(model, tags, given["num_classes"], images, config)
    timm, name = _library(model), given["model_name"]
    version = f"timm {timm.__version__}"
    known = timm.is_model(name)
    _require(known, config, "architecture", f"is {short(name)}, which {version} does not have")
    try:
        with torch.device("meta"):
            plan = timm.create_model(**given, pretrained=False).eval()
    except Exception as error:  # Whatever timm's many networks raise for arguments that do not fit.
        raise UserError(
            f"{config}: {version} cannot build {name} from it ({_reason(error)}): correct its"
            " model_args, or take it and the weights from one model and revision"
        ) from None
    tables = sum(buffer.nbytes for buffer in plan.buffers())
    _require(tables <= MAX_TABLES, config, "model_args", f"makes tables of {tables} bytes")
    _check_forward(plan, model, tags)
    state = weights.read(path, plan)
    net: nn.Module = timm.create_model(**given, pretrained=False)
    # All but counters and indices, which it has made itself.
    net.load_state_dict(state, strict=False, assign=True)
    return net.eval().requires_grad_(False)


def _library(model: ModelCard) -> Any:
    try:
        import timm
    # torchvision raises RuntimeError where it was built for another torch.
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"{model.name}: its network needs timm, which does not load ({_reason(error)}): run"
            " make venv-timm (its torchvision does not load beside a CPU build of torch)"
        ) from None
    return timm


def _check_forward(plan: nn.Module, model: ModelCard, tags: int) -> None:
    """Raise UserError unless a network without memory makes logits of the card's images."""
    size = model.image.size
    try:
        with torch.inference_mode():
            logits = plan(torch.empty(1, 3, size, size, device="meta"))
    except Exception as error:  # As in load.
        raise UserError(
            f"{model.name}: the network takes no images (n, 3, {size}, {size})"
            f" ({_reason(error)}): {remedy(model, 'image.size', 'file')}"
        ) from None
    if not torch.is_tensor(logits) or logits.shape != (1, tags):
        raise UserError(
            f"{model.name}: the network gives no logits (n, {tags}): {remedy(model, 'file')}"
        )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class TimmNetwork(TorchNetwork):
    """A timm network of a card."""

    def __init__(
        self, model: ModelCard, path: Path, tags: int, device: torch.device, precision: str
    ) -> None:
        super().__init__(load(path, model, tags), device, precision)
