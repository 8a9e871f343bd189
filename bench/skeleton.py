"""Make bench/vit_b16.onnx: the export of a ViT-B/16, without its weights.

    python -m bench.skeleton      # needs TensorFlow, 4 GB of memory and some minutes

The file names its weights as data in `weights.bin` beside it, which bench.gpu draws: vit_b16.json
says how many there are of each, their mean and standard deviation, in the order of that file.
"""

import json
import tempfile
from pathlib import Path

from bench import measure
from bench.export import SIZES
from bench.gpu import SKELETON

import numpy as np
import onnx
from onnx import numpy_helper

SMALL = 64  # Values; fewer stay in the file.


def strip(model: onnx.ModelProto) -> list[tuple[int, float, float]]:
    """Move a model's weights to data elsewhere; gives each one's count, mean and deviation."""
    found, offset = [], 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        found.append((values.size, round(float(values.mean()), 6), round(float(values.std()), 6)))
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": "weights.bin", "offset": offset, "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        offset += values.nbytes
    return found


def main() -> None:
    """Build, export, strip, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = folder / "saved"
        make = f"from bench.export import *; build(Path({str(saved)!r}), SIZES['full'])"
        measure.script("-c", make, env={"TF_CPP_MIN_LOG_LEVEL": "3"})
        measure.script("export_sw.py", "--saved-model", saved, "--data", folder)
        model = onnx.load(folder / "wd-v1-4-vit-tagger-v2.onnx")
    weights = strip(model)
    del model.metadata_props[:]
    SKELETON.write_bytes(model.SerializeToString())
    about = {"tags": SIZES["full"].tags, "float32": weights}
    SKELETON.with_suffix(".json").write_text(json.dumps(about) + "\n")
    print(f"wrote {SKELETON.name}: {SKELETON.stat().st_size / 1000:.0f} KB, {len(weights)} tensors")


if __name__ == "__main__":
    main()
