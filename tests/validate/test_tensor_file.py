"""Files of tensors written block by block are those that torch.save would have written."""

import zipfile
from pathlib import Path

from arena.validate import tensor_file
from arena.validate.tensor_file import Streamed

import numpy as np
import pytest
import torch


def test_torch_loads_what_was_streamed(tmp_path: Path) -> None:
    path, random = tmp_path / "a.pt", np.random.default_rng(0)
    scores = random.random((100, 37), np.float32)
    ids, truth = np.arange(7), scores > 0.5

    def streamed(kind: type) -> Streamed:
        blocks = (scores[start : start + 30] for start in range(0, 100, 30))
        return Streamed(scores.shape, np.dtype(kind), blocks)

    plain = {"tags": ["a", "b"], "threshold": 0.5, "last_post_id": None}
    none = np.zeros((0, 3), np.float32)
    halved = scores.astype(np.float16)
    arrays = {"predictions": scores, "half": halved, "ids": ids, "truth": truth, "none": none}
    both = {"predictions": streamed(np.float32), "half": streamed(np.float16)}
    tensor_file.save(path, {**arrays, **both, **plain})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    for mapped in (False, True):
        found = torch.load(path, weights_only=True, mmap=mapped)
        assert {name: found[name] for name in plain} == plain
        for name, array in arrays.items():
            assert found[name].dtype == torch.from_numpy(array).dtype
            np.testing.assert_array_equal(found[name].numpy(), array)
            assert found[name].data_ptr() % 64 == 0 and found[name].is_contiguous()


@pytest.mark.parametrize("rows", [2, 4])
def test_blocks_that_are_not_the_tensor_leave_no_file(tmp_path: Path, rows: int) -> None:
    streamed = Streamed((3, 5), np.dtype(np.float32), [np.zeros((rows, 5), np.float32)])
    with pytest.raises(ValueError, match="do not make up its shape"):
        tensor_file.save(tmp_path / "a.pt", {"predictions": streamed})
    assert not list(tmp_path.iterdir())
