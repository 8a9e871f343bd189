"""export_sw.py against the plain tf2onnx conversion: time, memory, file size, answers, speed.

    python -m bench.export                  # ViT-B/16 at 448, 9,083 tags; the plain way: 15 GB
    python -m bench.export --size medium    # ViT-Ti/16 at 224, 1,000 tags: under 2 GB

The network has random weights and is built with TensorFlow into a temporary folder. Each way runs
once in a process of its own; export_sw.py's time includes its check against TensorFlow, which the
plain way does without. Both files then answer the same images in ONNX Runtime, in turn, timed in
processor seconds of one thread, which other work on the machine does not change much.
"""

import argparse
import math
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure

import numpy as np
import onnxruntime


class Size(NamedTuple):
    """A vision transformer: image side, patch side, channels, blocks, heads, MLP width, tags."""

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    tags: int


SIZES = {
    "small": Size(64, 16, 64, 2, 2, 256, 100),
    "medium": Size(224, 16, 192, 12, 3, 768, 1000),
    "full": Size(448, 16, 768, 12, 12, 3072, 9083),
}


def build(folder: Path, size: Size, seed: int = 0) -> None:
    """Save a ViT with random weights as Keras does: nested functions, variables, einsum attention.

    Writes the SavedModel and a selected_tags.csv into `folder`.
    """
    import tensorflow as tf

    random = tf.random.Generator.from_seed(seed)
    tokens = (size.image // size.patch) ** 2 + 1
    head = size.width // size.heads

    def weight(*shape: int, inputs: int, mean: float = 0.0) -> Any:
        return tf.Variable(random.normal(shape, mean, 1 / math.sqrt(inputs)))

    def bias(*shape: int) -> Any:
        return weight(*shape, inputs=2500)

    def norm_weights() -> list[Any]:
        return [weight(size.width, inputs=2500, mean=1.0), bias(size.width)]

    def dense_weights(inputs: int, outputs: int) -> list[Any]:
        return [weight(inputs, outputs, inputs=inputs), bias(outputs)]

    def block_weights() -> dict[str, Any]:
        into = (size.width, size.heads, head)
        return {
            "norm1": norm_weights(),
            "qkv": [(weight(*into, inputs=size.width), bias(*into[1:])) for _ in range(3)],
            "out": [weight(*into[1:], size.width, inputs=size.width), bias(size.width)],
            "norm2": norm_weights(),
            "mlp1": dense_weights(size.width, size.hidden),
            "mlp2": dense_weights(size.hidden, size.width),
        }

    model = tf.Module()
    model.stem = [weight(size.patch, size.patch, 3, size.width, inputs=3 * size.patch**2)]
    model.stem.append(bias(size.width))
    model.cls, model.position = bias(1, 1, size.width), bias(1, tokens, size.width)
    model.blocks = [block_weights() for _ in range(size.depth)]
    model.norm = norm_weights()
    model.head = dense_weights(size.width, size.tags)

    def norm(x: Any, scale: Any, offset: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-6)

    def dense(x: Any, kernel: Any, offset: Any) -> Any:
        return tf.matmul(x, kernel) + offset

    def attention(x: Any, block: dict[str, Any]) -> Any:
        query, key, value = (tf.einsum("abc,cde->abde", x, w) + b for w, b in block["qkv"])
        scores = tf.nn.softmax(tf.einsum("aecd,abcd->acbe", key, query * head**-0.5))
        mixed = tf.einsum("acbe,aecd->abcd", scores, value)
        kernel, offset = block["out"]
        return tf.einsum("abcd,cde->abe", mixed, kernel) + offset

    spec = tf.TensorSpec([None, size.image, size.image, 3], name="input_1")

    def network(images: Any) -> Any:
        kernel, offset = model.stem
        x = tf.nn.conv2d(images / 127.5 - 1.0, kernel, size.patch, "VALID")
        x = tf.nn.bias_add(x, offset)
        batch = tf.shape(x)[0]
        x = tf.reshape(x, [batch, tokens - 1, size.width])
        x = tf.concat([tf.broadcast_to(model.cls, [batch, 1, size.width]), x], 1) + model.position
        for block in model.blocks:
            x += attention(norm(x, *block["norm1"]), block)
            x += dense(tf.nn.gelu(dense(norm(x, *block["norm2"]), *block["mlp1"])), *block["mlp2"])
        return tf.sigmoid(dense(norm(x, *model.norm)[:, 0], *model.head))

    def serve(input_1: Any) -> dict[str, Any]:
        return {"predictions_sigmoid": model.network(input_1)}

    model.network = tf.function(network, input_signature=[spec])
    served = tf.function(serve, input_signature=[spec])
    tf.saved_model.save(model, str(folder), signatures={"serving_default": served})
    rows = (f"{index},tag_{index},0,{9999 - index}\n" for index in range(size.tags))
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n" + "".join(rows))


def plain(folder: Path, target: Path) -> None:
    """The conversion as tf2onnx documents it, with nothing added but the missing operation."""
    from arena.export_sw.convert import OPSET

    import tensorflow as tf
    import tf2onnx

    saved = tf.saved_model.load(str(folder))
    function = saved.signatures["serving_default"]
    (name, spec), *_ = function.structured_input_signature[1].items()
    tf2onnx.convert.from_function(
        tf.function(lambda images: next(iter(function(**{name: images}).values()))),
        input_signature=[spec],
        opset=OPSET,
        custom_op_handlers={"Erfc": (erfc, [])},
        output_path=str(target),
    )


def erfc(ctx: Any, node: Any, name: str, args: Any) -> None:
    """Erfc(x) as 1 - Erf(x), for tf2onnx."""
    one = ctx.make_const(f"{name}_one", np.float32(1))
    erf = ctx.make_node("Erf", node.input)
    outputs = node.output
    ctx.remove_node(name)
    ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, name=name)


def answers(models: list[Path], batch: int, rounds: int) -> tuple[list[float], float]:
    """Median CPU seconds a batch of each model, run in turn, and the largest score difference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in models
    ]
    shape = (batch, *sessions[0].get_inputs()[0].shape[1:])
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    seconds: list[list[float]] = [[] for _ in models]
    scores: list[Any] = [None for _ in models]
    for _ in range(rounds + 1):  # The first round warms up.
        for index, session in enumerate(sessions):
            given = {session.get_inputs()[0].name: images}
            taken = measure.call(partial(session.run, None, given))
            (scores[index],) = taken.result
            seconds[index].append(taken.processor)
    difference = float(np.abs(np.stack(scores) - scores[0]).max())
    return [statistics.median(times[1:]) for times in seconds], difference


def main() -> None:
    """Build, convert both ways, compare."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--size", choices=SIZES, default="full", help="(default: %(default)s)")
    options.add_argument("--batch", type=int, default=2, help="images at a time (default: 2)")
    options.add_argument("--rounds", type=int, default=5, help="timed runs each (default: 5)")
    options.add_argument("--step", nargs="+", metavar="NAME", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.step:
        step, folder, *target = args.step
        build(Path(folder), SIZES[args.size]) if step == "build" else plain(Path(folder), *target)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, data = Path(temporary, "saved"), Path(temporary, "data")
        data.mkdir()
        usual, ours = data / "plain.onnx", data / "wd-v1-4-vit-tagger-v2.onnx"
        this = ("-m", "bench.export", "--size", args.size, "--step")
        measure.script(*this, "build", folder)
        weights = sum(file.stat().st_size for file in folder.glob("variables/*.data-*"))
        print(f"{SIZES[args.size]}: {weights / 1e6:.1f} MB of weights")
        rows = {}
        for name, command, file in (
            ("tf2onnx", (*this, "plain", folder, usual), usual),
            ("export_sw", ("export_sw.py", "--saved-model", folder, "--data", data), ours),
        ):
            taken = measure.script(*command)
            size = file.stat().st_size
            rows[name] = (taken.seconds, taken.processor, taken.peak / 1e9, size)
        speed, difference = answers([usual, ours], args.batch, args.rounds)
        print("            seconds    CPU s  peak GB  file MB  file/weights  CPU s per batch")
        for (name, (seconds, busy, peak, size)), run in zip(rows.items(), speed, strict=True):
            print(
                f"{name:10} {seconds:8.1f} {busy:8.1f} {peak:8.2f} {size / 1e6:8.1f} "
                f"{size / weights:13.4f} {run:16.3f}"
            )
        before, after = rows.values()
        names = ("time", "CPU time", "memory", "file")
        ratios = [f"{name} {b / a:.2f}" for name, a, b in zip(names, before, after, strict=True)]
        print(
            f"ratios export_sw / tf2onnx: {', '.join(ratios)}, inference {speed[1] / speed[0]:.2f}"
        )
        print(f"largest difference between the two files' scores: {difference:.1e}")


if __name__ == "__main__":
    main()
