"""A tagger in timm's files: config.json, safetensors, tags and a card, in a data folder."""

import json
from pathlib import Path
from typing import Any

from demo.tiny import IMAGE, toml
from tests.validate.helpers import TAGS

from safetensors.torch import save_file
from torch import nn

SIZE = 32
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
CONFIG: dict[str, Any] = {
    "architecture": "tiny_patch8.made_up",
    "num_classes": len(TAGS),
    "model_args": {"img_size": SIZE, "embed_dim": 16, "act_layer": "gelu", "fc_norm": False},
    "pretrained_cfg": {
        "input_size": [3, SIZE, SIZE],
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "mean": MEAN,
        "std": STD,
        "hf_hub_id": "someone/tagger",
    },
}
CARD = {
    "label": "Timm",
    "kind": "timm",
    "source": "./net",
    "file": "model.safetensors",
    "tags": "tags.txt",
    "threshold": 0.5,
    "activation": "sigmoid",
}
SETTINGS = {
    **IMAGE,
    "size": SIZE,
    "pad": "stretch",
    "resize": "bicubic",
    "layout": "nchw",
    "scale": "1/255",
    "mean": MEAN,
    "std": STD,
}


def make_timm(
    folder: Path, net: nn.Module, *, config: Any = CONFIG, card: Any = None, image: Any = None
) -> Path:
    """A network's files in folder/net, in timm's form, and its card, whose path it gives."""
    place = folder / "net"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    (place / "tags.txt").write_text("\n".join(TAGS) + "\n")
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(state, place / "model.safetensors")
    path = folder / "timm.toml"
    path.write_text(toml(CARD | (card or {}), SETTINGS | (image or {})))
    return path
