"""Cards of timm's networks, with the library itself: its own files, scored as it scores."""

import socket
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from danbooru_metadata import TagMappings
from demo.tiny import make_data, toml
from models.tagger import tagger
from tests.models.timm_files import CARD, SETTINGS
from tests.validate.helpers import TAGS, ok, saved, validate

import numpy as np
import pytest
import torch
from PIL import Image

try:
    import timm
except (ImportError, RuntimeError) as error:  # torchvision's, beside a torch for CPUs alone.
    reason = str(error).splitlines()[0]
    pytest.skip(f"timm does not load here ({reason}): make venv-timm", allow_module_level=True)

pytestmark = pytest.mark.slow

WD = {"class_token": False, "global_pool": "avg", "fc_norm": False, "act_layer": "gelu_tanh"}
# Positions that are learned, turned and relative; batch statistics; scales; all sizes but the
# networks' own; and tables that are in no file.
NETWORKS: list[tuple[str, dict[str, Any], int]] = [
    ("vit_tiny_patch16_224", {"img_size": 64, **WD}, 64),
    ("eva02_tiny_patch14_224", {"img_size": 56}, 56),
    ("swinv2_cr_tiny_224", {"img_size": 64, "window_size": 2}, 64),
    ("swinv2_tiny_window8_256", {"img_size": 128, "window_size": 4}, 128),
    ("beit_base_patch16_224", {"img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 4}, 32),
    ("convnext_atto", {"drop_path_rate": 0.1}, 64),
    ("resnet18", {}, 64),
    ("mobilenetv3_small_050", {}, 64),
    ("mobilevitv2_050", {}, 64),
    ("caformer_s18", {}, 64),
    ("efficientformer_l1", {}, 224),
    ("test_vit.r160_in1k", {}, 160),
]


@pytest.mark.parametrize(("architecture", "given", "size"), NETWORKS)
def test_a_run_scores_as_timm_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    given: dict[str, Any],
    size: int,
) -> None:
    torch.manual_seed(0)
    net = timm.create_model(architecture, num_classes=len(TAGS), **given).eval()
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value += (0.2 if name.startswith("head") else 0.02) * torch.randn_like(value)
    about = {"input_size": [3, size, size]}
    timm.models.save_for_hf(
        net, tmp_path / "net", model_config={"pretrained_cfg": about}, safe_serialization=True
    )
    (tmp_path / "net" / "tags.txt").write_text("\n".join(TAGS) + "\n")
    mean, std = (np.array(net.pretrained_cfg[key], np.float32) for key in ("mean", "std"))
    image = SETTINGS | {"size": size, "mean": mean.tolist(), "std": std.tolist()}
    card = tmp_path / "timm.toml"
    card.write_text(toml(CARD, image))
    posts = make_data(tmp_path, 4)

    def connect(*_: Any) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    ok(validate(tmp_path, card))
    images = []
    for post in posts:
        with Image.open(DataFolder(tmp_path).resized_image(post["id"])) as picture:
            pixels = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))[..., ::-1]
        images.append(((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1))
    batch = torch.from_numpy(np.stack(images).astype(np.float32))
    with torch.inference_mode():
        logits = net(batch)
    scores = saved(tmp_path, "timm")["predictions"]
    np.testing.assert_allclose(scores, logits.sigmoid(), atol=2e-5)
    assert scores.std() > 1e-3 and np.ptp(scores, axis=0).max() > 1e-4

    found = tagger(str(card), DataFolder(tmp_path), TagMappings(tmp_path / "metadata"))
    halves = {"cpu": "bfloat16"} | ({"cuda": "float16"} if torch.cuda.is_available() else {})
    for device, precision in halves.items():
        network = found.open(torch.device(device), precision)
        rough = network.outputs(batch.to(device)).cpu()
        assert rough.dtype == torch.float32
        assert (rough - logits).abs().max() < 0.1 * logits.abs().max()
