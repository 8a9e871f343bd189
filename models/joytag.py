"""JoyTag's network, a vision transformer, from its published config.json and model.safetensors.

`state_dict()` has the tensor names of the published files, so weights go both ways unchanged. Only
safetensors files are read: nothing in one can run code. Both files are treated as hostile.
"""

from pathlib import Path
from typing import Any

from arena.cli import UserError
from models import weights
from models.card import ModelCard
from models.torch_network import TorchNetwork
from models.weights import short

import torch
from torch import Tensor, nn
from torch.nn import functional

# The largest values accepted: far above any published file, low enough to fail before memory does.
SIZES = {
    "n_tags": 1_000_000,
    "image_size": 4096,
    "num_blocks": 256,
    "patch_size": 4096,
    "d_model": 16384,
    "mlp_dim": 65536,
    "num_heads": 1024,
}
MAX_TOKENS = 16384
MAX_STEM = 64  # Layers.
# What the network is where config.json, like the published one, does not say.
DEFAULTS = {"head_mean_after": False, "cnn_stem": None}
HEAD = ("head.weight", "head.bias")
SPARE_ROWS = 9  # The published head's rows beyond the tags, which nothing names: they are cut off.
PUBLISHED = "fancyfeast/joytag at revision 6b7f16331a6c"  # What a user can take as a pattern.


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of an (n, c, h, w) map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class Stem(nn.Module):
    """The convolutions that replace the patch embedding where config.json has a cnn_stem."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, s, s) to (n, d_model, rows, columns)."""
        y: Tensor = self.conv(x)
        return y


class Positions(nn.Module):
    """A learned vector per token."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)


class Skip(nn.Module):
    """A learned scale per channel on a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return x * self.skip


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y: Tensor = self.linear2(functional.gelu(self.linear1(x)))
        return y


class Block(nn.Module):
    """A pre-norm transformer block; the three projections are one matrix, heads contiguous."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.skip_init1 = Skip(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden)
        self.skip_init2 = Skip(width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        q, k, v = self.qkv_proj(self.norm1(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        attended = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        )
        x = x + self.skip_init1(self.out_proj(attended.transpose(1, 2).flatten(2)))
        y: Tensor = x + self.skip_init2(self.mlp(self.norm2(x)))
        return y


class ViT(nn.Module):
    """Images, float (n, 3, s, s), to logits (n, n_tags)."""

    def __init__(self, config: dict[str, Any], embedding: nn.Module) -> None:
        super().__init__()
        width = config["d_model"]
        self.head_mean_after = config["head_mean_after"]
        self.patch_embeddings = embedding
        if config["use_sine"]:
            self.pos_embedding = None
        else:
            tokens = (config["image_size"] // config["patch_size"]) ** 2
            self.pos_embedding = Positions(tokens, width)
        self.blocks = nn.ModuleList(
            Block(width, config["mlp_dim"], config["num_heads"])
            for _ in range(config["num_blocks"])
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config["n_tags"])

    def forward(self, images: Tensor) -> Tensor:
        """Works in the dtype of the weights; the caller chooses autocast."""
        grid = self.patch_embeddings(images)
        rows, columns = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        if self.pos_embedding is None:
            x = x + sine_positions(columns, rows, x.shape[2], self.head.weight)
        else:
            x = x + self.pos_embedding.embedding.weight
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.head_mean_after:
            logits: Tensor = self.head(x).mean(1)
        else:
            logits = self.head(x.mean(1))
        return logits


def sine_positions(columns: int, rows: int, width: int, like: Tensor) -> Tensor:
    """(rows * columns, width) fixed positions, row by row, in `like`'s dtype and on its device.

    [sin xw, cos xw, sin yw, cos yw] with w_i = 10000^(-i / (width/4 - 1)) for i < width/4.
    """
    quarter = width // 4
    steps = torch.arange(quarter, dtype=torch.float64, device=like.device)
    frequencies = 10000.0 ** (-steps / (quarter - 1))
    y, x = torch.meshgrid(
        torch.arange(rows, device=like.device),
        torch.arange(columns, device=like.device),
        indexing="ij",
    )
    xw, yw = x.reshape(-1, 1) * frequencies, y.reshape(-1, 1) * frequencies
    return torch.cat([xw.sin(), xw.cos(), yw.sin(), yw.cos()], dim=1).to(like.dtype)


def network(config: dict[str, Any]) -> ViT:
    """The network that a config.json describes, with fresh weights.

    Keys that only matter in training are ignored, and those of DEFAULTS may be left out. Raises
    UserError that names config.json and the key when one is missing, has the wrong type, is out of
    range or does not fit the others.
    """
    config = DEFAULTS | config
    _check_config(config)
    width = config["d_model"]
    if config["cnn_stem"] is None:
        side = config["image_size"] // config["patch_size"]
        _require(side >= 1, "patch_size", "is larger than image_size")
        embedding: nn.Module = nn.Conv2d(
            3, width, kernel_size=config["patch_size"], stride=config["patch_size"]
        )
    else:
        layers, channels, side = _stem_layers(config["cnn_stem"], config["image_size"])
        _require(channels == width, "cnn_stem", f"ends in {channels} channels, d_model is {width}")
        _require(
            config["use_sine"] or side == config["image_size"] // config["patch_size"],
            "cnn_stem",
            f"leaves a grid of {side} x {side} tokens, image_size / patch_size is another",
        )
        embedding = Stem(layers)
    _require(side**2 <= MAX_TOKENS, "image_size", f"makes {side**2} tokens (limit {MAX_TOKENS})")
    return ViT(config, embedding)


def _check_config(config: dict[str, Any]) -> None:
    for key in sorted({"class", "use_sine", *SIZES} - config.keys()):
        raise UserError(
            f"config.json: '{key}' is missing: add the key, or take the file and the weights of a"
            f" network of JoyTag's kind, such as {PUBLISHED}"
        )
    _require(config["class"] == "ViT", "class", f"is {short(config['class'])}, not 'ViT'")
    for key, largest in SIZES.items():
        value = config[key]
        _require(
            type(value) is int and 1 <= value <= largest,
            key,
            f"is {short(value)}, not a whole number from 1 to {largest}",
        )
    for key in ("use_sine", "head_mean_after"):
        _require(type(config[key]) is bool, key, f"is {short(config[key])}, not true or false")
    stem = config["cnn_stem"]
    _require(stem is None or type(stem) is str, "cnn_stem", f"is {short(stem)}, not text or null")
    width = config["d_model"]
    _require(width % config["num_heads"] == 0, "num_heads", f"does not divide d_model {width}")
    if config["use_sine"]:
        fits = width % 4 == 0 and width >= 8
        _require(fits, "d_model", f"is {width}; with use_sine it must be 8, 12, 16, …")


def _require(holds: bool, key: str, problem: str) -> None:
    if not holds:
        raise UserError(
            f"config.json: '{key}' {problem}: set it to what the weights were trained with"
            f" (published: {PUBLISHED})"
        )


def _stem_layers(text: str, size: int) -> tuple[list[nn.Module], int, int]:
    """The stem's layers, its output channels, and the side of its output for `size` pixels."""
    words = text.split(";")
    _require(len(words) <= MAX_STEM, "cnn_stem", f"has {len(words)} layers (limit {MAX_STEM})")
    layers: list[nn.Module] = []
    channels = 3
    for word in words:
        kind, _, rest = (part.strip() for part in word.partition(":"))
        if kind == "conv":
            c, k, s, p = _conv_options(rest)
            layers.append(nn.Conv2d(channels, c, kernel_size=k, stride=s, padding=p))
            channels, size = c, (size + 2 * p - k) // s + 1
            _require(size >= 1, "cnn_stem", f"has a kernel larger than its input: {short(word)}")
            continue
        _require(
            kind in ("ln", "bn", "relu", "gelu") and not rest,
            "cnn_stem",
            f"has an unknown layer {short(word)}",
        )
        if kind == "ln":
            layers.append(ChannelNorm(channels))
        elif kind == "bn":
            layers.append(nn.BatchNorm2d(channels))
        else:
            layers.append(nn.ReLU() if kind == "relu" else nn.GELU())
    return layers, channels, size


def _conv_options(text: str) -> tuple[int, int, int, int]:
    """Output channels, kernel, stride and padding of `c=OUT[,k=3][,s=2][,p=1]`."""
    options = {"k": 3, "s": 2, "p": 1}
    limits = {"c": (1, SIZES["d_model"]), "k": (1, 64), "s": (1, 64), "p": (0, 64)}
    for option in text.split(","):
        key, _, value = (part.strip() for part in option.partition("="))
        digits = value.isascii() and value.isdigit() and len(value) < 9
        low, high = limits.get(key, (1, 0))
        _require(
            digits and low <= int(value) <= high,
            "cnn_stem",
            f"has a conv with a bad option {short(option)} (c=1…, k=1…64, s=1…64, p=0…64)",
        )
        options[key] = int(value)
    _require("c" in options, "cnn_stem", "has a conv without c=, its output channels")
    return options["c"], options["k"], options["s"], options["p"]


def load(folder: Path, file: str = "model.safetensors") -> ViT:
    """The network in `folder` (config.json and `file`) in float32, ready for inference.

    Memory is taken only for tensors that are in the file with the shape the config calls for.
    Raises UserError that names the file and, where one is at fault, the key or tensor.
    """
    config = weights.read_config(folder / "config.json")
    try:
        with torch.device("meta"):
            net = network(config)
    except UserError as error:
        raise UserError(f"{folder}/{error}") from None
    state = weights.read(folder / file, net, dict.fromkeys(HEAD, SPARE_ROWS))
    counters = net.state_dict().keys() - state.keys()
    state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False)


class JoyTagNetwork(TorchNetwork):
    """JoyTag, of a card."""

    def __init__(
        self, model: ModelCard, path: Path, tags: int, device: torch.device, precision: str
    ) -> None:
        net = load(path.parent, path.name)
        if net.head.out_features != tags:
            raise UserError(
                f"{model.name}: the network has {net.head.out_features} outputs, but {model.tags}"
                f" has {tags} tags: change 'tags' or 'file' in {model.path}"
            )
        size = weights.read_config(path.parent / "config.json")["image_size"]
        if (size, model.image.layout) != (model.image.size, "nchw"):
            key = "image.size" if size != model.image.size else "image.layout"
            raise UserError(
                f"{model.name}: the network takes images (n, 3, {size}, {size}): change '{key}'"
                f" in {model.path}"
            )
        super().__init__(net, device, precision)
