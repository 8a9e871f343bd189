"""What is read, and what is refused, of the config.json of a timm network."""

import json
from pathlib import Path
from typing import Any

from arena.cli import UserError
from models.timm import arguments
from tests.models.timm_files import CONFIG

import pytest

PATH = Path("config.json")


def changed(table: str | None, key: str, value: Any) -> dict[str, Any]:
    """CONFIG with another value, at its top or in one of its tables."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    (config[table] if table else config)[key] = value
    return config


BAD: list[tuple[str | None, str, Any]] = [
    (None, "architecture", None),
    (None, "architecture", 5),
    (None, "architecture", "hf-hub:someone/tagger"),
    (None, "architecture", "local-dir:/tmp"),
    (None, "architecture", "../vit"),
    (None, "architecture", "a" * 101),
    (None, "num_classes", "12"),
    (None, "num_classes", True),
    (None, "num_classes", 0),
    (None, "num_classes", 10**15),
    (None, "model_args", [1]),
    (None, "pretrained_cfg", "x"),
    ("model_args", "in_chans", 1),
    ("model_args", "img_size", 0),
    ("model_args", "img_size", "32"),
    ("model_args", "img_size", [32, 64]),
    ("model_args", "img_size", 10**9),
    ("model_args", "embed_dim", 10**6),
    ("model_args", "depth", 10**6),
    ("model_args", "depths", [2, 10**6]),
    ("model_args", "depths", [[2]]),
    ("model_args", "depths", [1] * 65),
    ("model_args", "mlp_ratio", float("inf")),
    ("model_args", "mlp_ratio", float("nan")),
    ("model_args", "act_layer", "os.system"),
    ("model_args", "act_layer", "/etc/passwd"),
    ("model_args", "norm_layer", {"a": 1}),
    ("pretrained_cfg", "input_size", [1, 32, 32]),
    ("pretrained_cfg", "input_size", [3, 32, 64]),
    ("pretrained_cfg", "input_size", [3, [1], [1]]),
    ("pretrained_cfg", "input_size", []),
    ("pretrained_cfg", "test_input_size", [3, 10**9, 10**9]),
    ("pretrained_cfg", "mean", [0.5, 0.5]),
    ("pretrained_cfg", "mean", [0.5, 0.5, 10**400]),
    ("pretrained_cfg", "std", [0.5, 0.5, "0.5"]),
    ("pretrained_cfg", "std", 0.5),
]


@pytest.mark.parametrize(("table", "key", "value"), BAD)
def test_a_bad_config_names_its_key(table: str | None, key: str, value: Any) -> None:
    with pytest.raises(UserError) as error:
        arguments(changed(table, key, value), PATH)
    text = str(error.value)
    assert text.startswith("config.json: ") and "\n" not in text and len(text) < 400
    assert f"'{table}.{key}'" in text if table else f"'{key}'" in text


LOADERS = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("features_only", "pretrained_filter_fn", "pretrained_strict", "scriptable", "device"),
    *("dtype", "model_name", "block_fn", "pruned", "x" * 500, "\n", ""),
)


@pytest.mark.parametrize("key", LOADERS)
def test_arguments_that_load_or_write_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=r"'model_args' has .*remove it there") as error:
        arguments(changed("model_args", key, True), PATH)
    assert "\n" not in str(error.value)


def test_sizes_as_timm_takes_them() -> None:
    def sizes(model_args: Any, **about: Any) -> tuple[set[int], bool]:
        config = {**CONFIG, "model_args": model_args, "pretrained_cfg": about}
        given, images = arguments(config, PATH)
        return set(images.sizes), given["pretrained_cfg"]["fixed_input_size"]

    small, large = [3, 224, 224], [3, 288, 288]
    assert sizes({}) == (set(), False)
    assert sizes(None, input_size=small, test_input_size=large) == ({224, 288}, False)
    assert sizes({"img_size": [448, 448]}, input_size=small) == ({448}, False)
    assert sizes({"img_size": None}, input_size=small, fixed_input_size=True) == ({224}, True)
    free = {"img_size": 448, "dynamic_img_size": True}
    assert sizes(free, input_size=small, fixed_input_size=True) == ({448, 224}, False)
    # Files of old versions have no table.
    old = {"architecture": "a", "num_classes": 3, "input_size": small, "mean": [0, 0.5, 1]}
    given, images = arguments(old, PATH)
    assert given["num_classes"] == 3 and images == (frozenset([224]), [0, 0.5, 1], None)
