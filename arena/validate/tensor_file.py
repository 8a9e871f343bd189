"""Files of tensors, larger than the memory if need be, for `torch.load(path, weights_only=True)`.

torch.save wants all of a tensor in memory. The form it writes is a zip file without compression:
`data.pkl` has the contents, and `data/0`, `data/1`, … the bytes of their tensors, each from a
multiple of 64 bytes on, so that they can be mapped into memory
(https://docs.pytorch.org/docs/stable/notes/serialization.html, "Serialized file format").
"""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import files

import numpy as np
import torch

ALIGNED = 64  # Bytes.
HEADER = 30  # Bytes of a zip entry's header before its name.
LARGE = 20  # Bytes that tell the sizes of an entry which may be over 4 GB.
PADDING = b"FB"  # The kind of an entry's extra field that torch fills up with.
STORAGES = {
    np.dtype(np.float16): torch.HalfStorage,
    np.dtype(np.float32): torch.FloatStorage,
    np.dtype(np.int64): torch.LongStorage,
    np.dtype(np.bool_): torch.BoolStorage,
}


@dataclass(frozen=True)
class Streamed:
    """A tensor written block by block: its shape, the type that it gets, and its rows in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> "Streamed":
        """All of an array as one block."""
        return cls(array.shape, array.dtype, [array])


@dataclass(frozen=True)
class _Storage:
    """What a pickle says of a tensor's bytes."""

    place: int
    of: Streamed


class _Pickler(pickle.Pickler):
    """Pickles arrays and streamed tensors as torch.save pickles tensors, and collects them."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.tensors: list[Streamed] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            obj = Streamed.of(obj)
        if not isinstance(obj, Streamed):
            return NotImplemented
        storage = _Storage(len(self.tensors), obj)
        self.tensors.append(obj)
        strides = [int(np.prod(obj.shape[axis + 1 :])) for axis in range(len(obj.shape))]
        hooks: OrderedDict[str, Any] = OrderedDict()
        form = storage, 0, obj.shape, tuple(strides), False, hooks
        return torch._utils._rebuild_tensor_v2, form

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        values = int(np.prod(obj.of.shape))
        return "storage", STORAGES[obj.of.dtype], str(obj.place), "cpu", values


def save(path: Path, contents: dict[str, Any]) -> None:
    """Write a file of plain values, of Streamed, and of arrays float16, float32, int64 or bool,
    atomically.

    Raises ValueError where the blocks of a tensor are not what its shape says.
    """
    pickled = io.BytesIO()
    pickler = _Pickler(pickled)
    pickler.dump(contents)
    with files.atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickled.getvalue())
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), sys.byteorder)
        for place, tensor in enumerate(pickler.tensors):
            entry = zipfile.ZipInfo(f"archive/data/{place}")
            start = file.tell() + HEADER + len(entry.filename) + LARGE + 4
            fill = -start % ALIGNED
            entry.extra = PADDING + fill.to_bytes(2, "little") + bytes(fill)
            size = int(np.prod(tensor.shape)) * tensor.dtype.itemsize
            with archive.open(entry, "w", force_zip64=True) as out:
                for block in tensor.blocks:
                    data = np.ascontiguousarray(block, tensor.dtype)
                    size -= data.nbytes
                    if data.nbytes:
                        out.write(data.reshape(-1).view(np.uint8).data)
            if size:
                raise ValueError(f"{path}: the blocks of tensor {place} do not make up its shape")
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
