"""SavedModels as the tests of export_sw.py need them, with their tags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_sw
from arena.export_sw.saved_model import tf
from bench.export import Size

import numpy as np

TINY = Size(image=32, patch=8, width=32, depth=2, heads=4, hidden=64, tags=17)


def write_tags(folder: Path, count: int) -> None:
    rows = "".join(f"{index},tag_{index},{index % 2 * 4},10\n" for index in range(count))
    (folder / export_sw.TAGS).write_text("tag_id,name,category,count\n" + rows)


def save(
    folder: Path,
    network: Callable[[Any], Any],
    tags: int = 4,
    shape: tuple[int | None, ...] = (None, 8, 8, 3),
    dtype: Any = tf.float32,
    name: str = "serving_default",
    variables: Any = None,
) -> Path:
    """A SavedModel of one function, with its tags."""
    module = tf.Module()
    module.kept = variables
    module.network = tf.function(network, input_signature=[tf.TensorSpec(shape, dtype)])
    # As Keras 2.10 saved its models: without the gradients that operations bring along.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), {name: module.network}, options)
    write_tags(folder, tags)
    return folder


def fused_norm(
    x: Any, gamma: Any, beta: Any, ones: float = 1, training: bool = True, split: int = 1
) -> Any:
    """Keras 2.10's LayerNormalization over the last axis: through a batch norm in training mode.

    With other values than the defaults it is something else that looks alike: every row scaled,
    a batch norm that takes given moments, rows of a fraction of the axis.
    """
    rows, width = split, 1
    shape = tf.shape(x)
    for side in range(len(x.shape)):
        if side < len(x.shape) - 1:
            rows = rows * shape[side]
        else:
            width = width * shape[side]
    y = tf.reshape(x, [1, rows, width // split, 1])
    scale, offset = tf.fill([rows], float(ones)), tf.zeros([rows])
    moments = {} if training else {"mean": tf.zeros([rows]), "variance": tf.fill([rows], 0.5)}
    y, _, _ = tf.compat.v1.nn.fused_batch_norm(
        y, scale, offset, **moments, epsilon=1e-3, data_format="NCHW", is_training=training
    )
    return tf.reshape(y, shape) * gamma + beta


def moments_norm(x: Any, gamma: Any, beta: Any, axis: int = -1, epsilon: Any = 1e-6) -> Any:
    """Keras 2.10's LayerNormalization where a batch norm would not be as exact."""
    mean, variance = tf.nn.moments(x, [axis], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, epsilon)


def old_keras(folder: Path) -> Path:
    """What Keras 2.10 made of its layers: Erf, LayerNormalization through a batch norm in training
    mode, Dense through Tensordot, an Embedding read in place, a frozen constant, depthwise conv.
    """
    numbers = np.random.default_rng(1)

    def weight(*shape: int) -> Any:
        return tf.Variable(numbers.normal(0, 0.3, shape).astype(np.float32))

    stem, stem_bias, depthwise = weight(4, 4, 3, 32), weight(32), weight(3, 3, 32, 1)
    position, scale, offset = weight(16, 32), weight(32), weight(32)
    up, up_bias, down, head, head_bias = (
        *(weight(32, 64), weight(64), weight(64, 32)),
        *(weight(32, 11), weight(11)),
    )
    moments = [weight(32), tf.Variable(numbers.uniform(0.5, 1, 32).astype(np.float32))]
    frozen = tf.constant(numbers.normal(0, 0.1, (64, 32)).astype(np.float32))

    def network(images: Any) -> Any:
        x = tf.nn.conv2d(images / 255.0, stem, 4, "VALID") + stem_bias
        x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME")
        x, *_ = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, *moments, is_training=False)
        x = tf.reshape(x, [-1, 16, 32]) + tf.gather(position, tf.range(16))
        y = tf.tensordot(fused_norm(x, scale, offset), up, 1) + up_bias
        y = 0.5 * y * (1.0 + tf.math.erf(y / tf.cast(2.0**0.5, y.dtype)))
        x = x + tf.matmul(y, down) + tf.matmul(y, frozen)
        return tf.sigmoid(tf.matmul(tf.reduce_mean(x, 1), head) + head_bias)

    kept = [stem, stem_bias, depthwise, position, scale, offset, up, up_bias, down, head]
    return save(folder, network, 11, (None, 16, 16, 3), variables=[*kept, head_bias, *moments])


def new_keras(folder: Path) -> Path:
    """What today's Keras exports for a transformer made of its own layers."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    given = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 8, 8)(layers.Rescaling(1 / 127.5, -1)(given))
    x = layers.Reshape((16, 32))(layers.BatchNormalization()(x))
    x = x + layers.Embedding(16, 32)(np.arange(16)[None])
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(4, 8)(y, y)
    y = layers.Dense(64, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
    x = x + layers.Dense(32)(layers.Dropout(0.1)(y))
    scores = layers.Dense(5, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
    keras.Model(given, scores).export(folder, verbose=False)
    write_tags(folder, 5)
    return folder


def scalars(folder: Path) -> Path:
    """Numbers captured and kept as variables, as SwinV2's are, beside one-element lists as large;
    a captured axis; an operation with a gradient of its own, as MOAT's is.
    """
    dtypes = (tf.float32, tf.float64, tf.int32, tf.int64, tf.bool)
    captured = [
        tf.constant(np.array(shape), dtype) for dtype in dtypes for shape in (1, [1], [[1]])
    ]
    kept = [tf.Variable(value) for value in (0.5, [0.5], [[0.5]])]
    axis, large = tf.constant(1), tf.constant(np.linspace(-1, 1, 900, dtype=np.float32))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def steep(x: Any) -> Any:
        return x * 2.0, lambda dy: dy * 2.0

    def network(images: Any) -> Any:
        x = tf.reduce_mean(images, axis)[:, :4, 0] / 255.0 + tf.reduce_sum(large)
        for value in captured:
            stretched = tf.reshape(x, [-1, 4] + [1] * len(value.shape))
            stretched += tf.cast(value, tf.float32)
            x = tf.reshape(stretched, tf.shape(x)) * tf.cast(tf.rank(value) + 1, tf.float32)
        return steep(x) * kept[0] * kept[1] * kept[2] / 1e3

    return save(folder, network, 4, (None, 16, 16, 3), variables=[captured, kept])


def plain_network(images: Any) -> Any:
    return images[:, 0, :4, 0] / 255.0
