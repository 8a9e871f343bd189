"""models/joytag.py against a second forward pass."""

from pathlib import Path

from models import joytag
from tests.models.joytag_oracle import CONFIG, DEFAULTS, STEM, Config, images, oracle, shapes, write

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file


def agrees(folder: Path, config: Config, spare_rows: bool, seed: int) -> None:
    weights = write(folder, config, spare_rows, seed)
    net = joytag.load(folder)
    batch = images(config["image_size"])
    wanted = np.stack([oracle(image, weights, config) for image in batch])
    with torch.no_grad():
        single = net(torch.from_numpy(batch).float())
        double = net.double()(torch.from_numpy(batch))
    assert single.dtype == torch.float32 and single.shape == (2, config["n_tags"])
    np.testing.assert_allclose(double.numpy(), wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(single.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cnn_stem", [None, STEM])
@pytest.mark.parametrize("use_sine", [True, False])
@pytest.mark.parametrize("head_mean_after", [True, False])
@pytest.mark.parametrize("spare_rows", [True, False])
def test_forward_is_the_oracles(
    tmp_path: Path, cnn_stem: str | None, use_sine: bool, head_mean_after: bool, spare_rows: bool
) -> None:
    config = CONFIG | {
        "cnn_stem": cnn_stem,
        "use_sine": use_sine,
        "head_mean_after": head_mean_after,
    }
    agrees(tmp_path, config, spare_rows, seed=2)


@settings(max_examples=15, deadline=None)
@given(
    patch=st.integers(3, 9),
    side=st.integers(1, 4),
    rest=st.integers(0, 2),
    heads=st.integers(1, 3),
    head_width=st.sampled_from([4, 8]),
    hidden=st.integers(1, 20),
    blocks=st.integers(1, 3),
    tags=st.integers(1, 12),
    use_sine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_forward_is_the_oracles_at_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    patch: int,
    side: int,
    rest: int,
    heads: int,
    head_width: int,
    hidden: int,
    blocks: int,
    tags: int,
    use_sine: bool,
    seed: int,
) -> None:
    config = CONFIG | {
        "patch_size": patch,
        "image_size": patch * side + rest,
        "num_heads": heads,
        "d_model": 2 * heads * head_width,
        "mlp_dim": hidden,
        "num_blocks": blocks,
        "n_tags": tags,
        "use_sine": use_sine,
    }
    agrees(tmp_path_factory.mktemp("joytag"), config, False, seed)


def test_keys_that_the_file_lacks_have_upstreams_defaults(tmp_path: Path) -> None:
    for key, value in DEFAULTS.items():
        weights = write(tmp_path, {name: CONFIG[name] for name in CONFIG if name != key})
        with torch.no_grad():
            logits = joytag.load(tmp_path).double()(torch.from_numpy(images(24)))
        wanted = np.stack([oracle(image, weights, CONFIG | {key: value}) for image in images(24)])
        np.testing.assert_allclose(logits.numpy(), wanted, rtol=1e-10, atol=1e-10)


def test_an_image_counts_on_its_own(tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {"cnn_stem": STEM})
    net = joytag.load(tmp_path)
    batch = torch.from_numpy(images(24, 5)).float()
    with torch.no_grad():
        torch.testing.assert_close(net(batch)[3:4], net(batch[3:4]), rtol=1e-5, atol=1e-5)


def test_half_precision_by_autocast(tmp_path: Path) -> None:
    write(tmp_path, CONFIG | {"cnn_stem": STEM})
    net = joytag.load(tmp_path)
    batch = torch.from_numpy(images(24)).float()
    with torch.no_grad():
        exact = net(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(batch)
    assert rough.isfinite().all()
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    write(tmp_path, CONFIG)
    path = tmp_path / "model.safetensors"
    halves = {name: value.half() for name, value in load_file(path).items()}
    save_file(halves, path)
    state = joytag.load(tmp_path).state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert all(torch.equal(state[name], value.float()) for name, value in halves.items())


def test_state_dict_has_the_published_names() -> None:
    for config in (CONFIG, CONFIG | {"cnn_stem": STEM, "use_sine": False}):
        state = joytag.network(config).state_dict()
        held = {name: tuple(v.shape) for name, v in state.items() if "num_batches" not in name}
        assert held == shapes(config, spare_rows=False)
