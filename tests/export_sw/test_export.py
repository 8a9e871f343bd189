"""export_sw.py: against TensorFlow's own answers, and with all that can be wrong with its input."""

import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import export_sw
from arena.cli import UserError, run
from arena.data_folder import DataFolder
from arena.export_sw import convert
from arena.export_sw.convert import tf  # type: ignore[attr-defined]
from bench.export import Size, build, erfc
from demo import server as stand_in
from tests.helpers import doomed, kills, make_data, make_model
from tests.helpers import refused as refused_by
from tests.helpers import run as run_script

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAME = "wd-v1-4-vit-tagger-v2"
REPO = f"SmilingWolf/{NAME}"
TINY = Size(image=32, patch=8, width=32, depth=2, heads=4, hidden=64, tags=17)
Export = Callable[..., tuple[int, str, str]]


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

    def layer_norm(x: Any) -> Any:
        shape = tf.shape(x)
        rows = shape[0] * shape[1]
        y = tf.reshape(x, [1, rows, shape[2], 1])
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            y, tf.ones([rows]), tf.zeros([rows]), epsilon=1e-3, data_format="NCHW"
        )
        return tf.reshape(y, shape) * scale + offset

    def network(images: Any) -> Any:
        x = tf.nn.conv2d(images / 255.0, stem, 4, "VALID") + stem_bias
        x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME")
        x, *_ = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, *moments, is_training=False)
        x = tf.reshape(x, [-1, 16, 32]) + tf.gather(position, tf.range(16))
        y = tf.tensordot(layer_norm(x), up, 1) + up_bias
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


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SavedModels by what wrote them."""
    folder = tmp_path_factory.mktemp("saved")
    build(folder / "vit", TINY)
    return {
        "vit": folder / "vit",
        "old keras": old_keras(folder / "old"),
        "new keras": new_keras(folder / "new"),
        "scalars": scalars(folder / "scalars"),
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def export(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Export:
    """Run export_sw.py's main in this process, which has TensorFlow loaded: (code, out, err)."""

    def call(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["export_sw.py", "--data", str(data), *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run(export_sw.main)
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(export: Export, data: Path) -> Callable[..., str]:
    """Run export_sw.py on what it must refuse: its one line. It must leave no file behind."""

    def call(*args: str | Path) -> str:
        code, out, err = export(*args)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not list(data.glob("*.onnx")) and not list(data.glob(".*.tmp"))
        return err

    return call


def script(
    data: Path, *args: str | Path, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real script in a process of its own."""
    return subprocess.run(
        [sys.executable, "export_sw.py", "--data", data, *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


def check_answers(model: Path, folder: Path) -> None:
    """The ONNX file against TensorFlow's own run of the SavedModel."""
    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]
    (name, spec), *_ = function.structured_input_signature[1].items()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 8):
        images = np.random.default_rng(batch).uniform(0, 255, (batch, *spec.shape[1:]))
        images = images.astype(np.float32)
        (expected,) = function(**{name: tf.constant(images)}).values()
        (answer,) = session.run(None, {session.get_inputs()[0].name: images})
        assert answer.dtype == np.float32
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "old keras", "new keras"])
def test_onnx_answers_as_tensorflow_does(
    kind: str, saved: dict[str, Path], data: Path, export: Export
) -> None:
    code, out, err = export("--saved-model", saved[kind], "--repo", "someone/tagger")
    assert (code, err) == (0, "")
    check_answers(data / "tagger.onnx", saved[kind])
    tags = saved[kind] / export_sw.TAGS
    assert (data / "tagger.csv").read_bytes() == tags.read_bytes()
    size = (data / "tagger.onnx").stat().st_size / 1e6
    assert f"tagger.onnx ({size:.1f} MB)" in out
    told = re.search(r"within (\S+) of TensorFlow", out)
    assert told and 0 <= float(told[1]) < 1e-5

    model = onnx.load(data / "tagger.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (scores,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for tensor in (images, scores):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert images.type.tensor_type.shape.dim[3].dim_value == 3
    stored = {tensor.name for tensor in model.graph.initializer}
    repeats = {"Expand", "Tile", "ConstantOfShape"}
    for node in model.graph.node:
        assert node.op_type in repeats or not stored.issuperset(filter(None, node.input))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(data / "optimized")
    onnxruntime.InferenceSession(data / "tagger.onnx", options, ["CPUExecutionProvider"])
    optimized = {node.op_type for node in onnx.load(data / "optimized").graph.node}
    assert optimized & {"Gelu", "BiasGelu"} and "Erf" not in optimized
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer]
    assert len(set(contents)) == len(contents)


def test_graph_has_no_more_nodes_than_the_plain_conversion(saved: dict[str, Path]) -> None:
    import tf2onnx

    loaded = tf.saved_model.load(str(saved["vit"]))
    function = loaded.signatures["serving_default"]
    plain, _ = tf2onnx.convert.from_function(
        tf.function(lambda x: next(iter(function(input_1=x).values()))),
        input_signature=[tf.TensorSpec([None, 32, 32, 3])],
        opset=convert.OPSET,
        custom_op_handlers={"Erfc": (erfc, [])},
    )
    ours = convert.convert(convert.load(saved["vit"]))
    assert len(ours.graph.node) <= len(plain.graph.node)
    assert ours.ByteSize() < plain.ByteSize()


def test_numbers_and_one_element_lists_stay_apart(
    saved: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """In a process of its own, as absl speaks before anything else of this one is heard."""
    ended = script(data, "--saved-model", saved["scalars"])
    assert (ended.returncode, ended.stderr) == (0, "")
    check_answers(data / f"{NAME}.onnx", saved["scalars"])


SHAPES = [(), (1,), (1, 1), (2,), (0,), (2, 1)]
ARRAYS = st.builds(
    lambda dtype, shape, number: np.full(shape, number, dtype),
    st.sampled_from(["float32", "int32", "int64", "bool", "float64"]),
    st.sampled_from(SHAPES),
    st.integers(0, 1),
)


@given(st.lists(ARRAYS, min_size=1, max_size=12))
def test_constants_are_one_where_type_shape_and_values_are_equal(arrays: list[Any]) -> None:
    weights = {f"w{number}": array for number, array in enumerate(arrays)}
    kinds = onnx.helper.np_dtype_to_tensor_dtype
    info = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Mix", ["images", name], [f"{name}_out"]) for name in weights]
    graph = onnx.helper.make_graph(
        nodes,
        "mixed",
        [info(name, kinds(array.dtype), array.shape) for name, array in weights.items()],
        [],
    )
    model = onnx.helper.make_model(graph)
    constants = convert.fold(model, dict(weights))
    for node, array in zip(model.graph.node, arrays, strict=True):
        stored = onnx.numpy_helper.from_array(constants[node.input[1]], "stored")
        back = onnx.numpy_helper.to_array(stored)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert np.array_equal(back, array)
    distinct = {(array.dtype, array.shape, array.tobytes()) for array in arrays}
    assert len(constants) == len(distinct)


def test_tensorflow_errors_are_told_by_the_line_that_says_why(
    tmp_path: Path,
) -> None:
    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def compiled(x: Any) -> Any:
        return tf.reshape(x, (7, tf.shape(x)[0] + 1))

    def failure(network: Callable[[Any], Any]) -> str:
        """Of a function as it is written, of one in a SavedModel, and of one operation."""
        spec = tf.TensorSpec((None, 8, 8, 3))
        images = tf.constant(np.ones((2, 8, 8, 3), np.float32))
        module = tf.Module()
        module.network = tf.function(network, input_signature=[spec])
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        tf.saved_model.save(module, str(folder), signatures=module.network)
        loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
        told = set()
        for call in (module.network, loaded):
            with pytest.raises(tf.errors.OpError) as caught:
                call(images)
            told.add(convert.why(caught.value))
        (line,) = told
        return line

    def text(x: Any) -> Any:
        return tf.strings.to_number(tf.strings.join(["a", tf.strings.as_string(x[:, 0, 0, 0])]))

    def asserts(x: Any) -> Any:
        tf.debugging.assert_less(x, 0.5, message="too bright")
        return x

    def fails(x: Any) -> Any:
        return tf.py_function(lambda y: 1 / 0, [x], tf.float32)

    def divides(x: Any) -> Any:
        return tf.cast(x, tf.int32) // tf.cast(x - 1, tf.int32)

    sizes = "Input to reshape is a tensor with 384 values, but the requested shape has 21"
    expected: dict[Callable[[Any], Any], str] = {
        compiled: sizes,
        (lambda x: tf.reshape(x, (7, tf.shape(x)[0] + 1))): sizes,
        text: "StringToNumberOp could not correctly convert string: a1",
        asserts: r"assertion failed: [too bright] [Condition x < y did not hold element-wise:]",
        fails: "ZeroDivisionError: division by zero",
        divides: "Integer division by zero",
        (lambda x: tf.gather(tf.constant([1.0, 2.0]), tf.cast(x[:, 0, 0, 0] * 9, tf.int32))): (
            "indices[0] = 9 is not in [0, 2)"
        ),
        (lambda x: tf.debugging.check_numerics(x / 0.0, "oh no")): "oh no : Tensor had Inf values",
    }
    for network, line in expected.items():
        told = failure(network)
        assert told.startswith(line)
        assert "{{" not in told and "[Op:" not in told
    with pytest.raises(tf.errors.OpError) as caught:
        tf.matmul(tf.zeros([3, 2]), tf.zeros([3, 2]))
    sizes = "Matrix size-incompatible: In[0]: [3,2], In[1]: [3,2]"
    assert convert.why(caught.value) == sizes
    assert convert.why(ValueError()) == "ValueError"
    assert convert.why(ValueError("\n one \ntwo")) == "two"

    def too_large(images: Any) -> Any:
        side = tf.cast(images[0, 0, 0, :2] * 1e7, tf.int64)
        return plain_network(images) + tf.reduce_sum(tf.random.uniform(side))

    for name, network, line in (
        ("mixed", lambda x: tf.gather(plain_network(x), [9]), "get its files again"),
        ("large", too_large, "OOM when allocating .* more memory"),
    ):
        signature = convert.load(save(tmp_path / name, network))
        with pytest.raises(UserError, match=line):
            signature(np.ones((2, 8, 8, 3), np.float32))


@pytest.fixture
def hub(saved: dict[str, Path], tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The stand-in hub with one repository, and the environment that leads to it."""
    folder = tmp_path / "hub"
    shutil.copytree(saved["vit"], folder / REPO)
    (folder / REPO / "model.onnx").write_bytes(b"never fetched")
    with stand_in.serve(hub=folder, tokens={"gated/tagger": "hf_secret"}) as server:
        yield SimpleNamespace(
            folder=folder,
            server=server,
            environment={"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")},
        )


def test_export_from_the_hub_then_offline(
    hub: SimpleNamespace, data: Path, saved: dict[str, Path]
) -> None:
    first = script(data, **hub.environment)
    assert (first.returncode, first.stderr) == (0, "")
    check_answers(data / f"{NAME}.onnx", saved["vit"])
    asked = {request.path for request in hub.server.requests}
    assert any(path.endswith("/revision/v2.0") for path in asked)
    assert not any("model.onnx" in path for path in asked)

    model, table = data / f"{NAME}.onnx", data / f"{NAME}.csv"
    before, stamp = model.read_bytes(), model.stat().st_mtime_ns
    count = len(hub.server.requests)
    again = script(data, **hub.environment, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to do" in again.stdout
    assert len(hub.server.requests) == count
    assert model.stat().st_mtime_ns == stamp

    # The same bytes whatever the order of Python's hashes, also when a part was lost.
    table.unlink()
    redone = script(data, **hub.environment, HF_HUB_OFFLINE="1", PYTHONHASHSEED="7")
    assert (redone.returncode, redone.stderr) == (0, "")
    assert "wrote" in redone.stdout
    assert model.read_bytes() == before
    assert table.is_file()
    assert len(hub.server.requests) == count


def test_other_weights_are_converted_anew(
    saved: dict[str, Path], data: Path, tmp_path: Path, export: Export
) -> None:
    def say(value: float) -> Path:
        bias = tf.Variable(tf.fill([4], value))
        folder = tmp_path / str(value)
        return save(folder, lambda x: tf.reduce_mean(x) * 0 + x[:, 0, :4, 0] + bias, variables=bias)

    first, second = say(0.25), say(0.5)
    assert "wrote" in export("--saved-model", first)[1]
    before = (data / f"{NAME}.onnx").read_bytes()
    assert "nothing to do" in export("--saved-model", first)[1]
    assert "wrote" in export("--saved-model", second)[1]
    assert (data / f"{NAME}.onnx").read_bytes() != before
    (data / f"{NAME}.onnx").write_bytes(before[:-100])
    assert "wrote" in export("--saved-model", first)[1]
    assert (data / f"{NAME}.onnx").read_bytes() == before


def test_kills_leave_a_whole_file_or_none(
    saved: dict[str, Path], data: Path, tmp_path: Path, export: Export
) -> None:
    args = ("--saved-model", saved["old keras"])
    model, report = data / f"{NAME}.onnx", tmp_path / "steps"
    doomed("export_sw", data, *args, step=0, report=report)
    steps = int(report.read_text())
    whole = model.read_bytes()
    dice = random.Random(5)
    for _ in range(kills(4)):
        model.unlink(missing_ok=True)
        doomed("export_sw", data, *args, step=dice.randint(1, steps), report=report)
        assert not model.exists() or model.read_bytes() == whole
    assert export(*args)[0] == 0
    assert model.read_bytes() == whole
    assert {path.name for path in data.iterdir()} == {
        f"{NAME}.onnx",
        f"{NAME}.csv",
        ".export_sw.lock",
    }


def test_scores_that_differ_keep_no_file(
    saved: dict[str, Path], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = convert.Signature.__call__
    for error, shown in ((2e-4, "2.0e-04"), (float("nan"), "nan")):
        monkeypatch.setattr(
            convert.Signature, "__call__", lambda s, x, e=error: honest(s, x) + np.float32(e)
        )
        assert shown in refused("--saved-model", saved["old keras"])


def test_a_failed_export_leaves_the_old_pair(
    saved: dict[str, Path],
    data: Path,
    tmp_path: Path,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert export("--saved-model", saved["old keras"])[0] == 0
    pair = [(data / f"{NAME}{end}").read_bytes() for end in (".onnx", ".csv")]
    other = tmp_path / "other"
    shutil.copytree(saved["old keras"], other)
    first, *rows = (other / export_sw.TAGS).read_text().splitlines()
    (other / export_sw.TAGS).write_text("\n".join([first, *reversed(rows)]) + "\n")
    honest = convert.Signature.__call__
    with monkeypatch.context() as patch:
        patch.setattr(convert.Signature, "__call__", lambda s, x: honest(s, x) + 1)
        assert export("--saved-model", other)[0] == 2
    assert [(data / f"{NAME}{end}").read_bytes() for end in (".onnx", ".csv")] == pair
    assert export("--saved-model", other)[0] == 0
    assert (data / f"{NAME}.csv").read_bytes() == (other / export_sw.TAGS).read_bytes()


def test_full_disk_and_read_only_folder(saved: dict[str, Path], data: Path, export: Export) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ended = script(data, "--saved-model", saved["old keras"], limit=small_files)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .*[Ff]ile too large.*\n", ended.stderr)
    assert not list(data.glob("*.onnx")) and not list(data.glob(".*.tmp"))
    code, _, err = export("--saved-model", saved["old keras"], "--data", data / "missing")
    assert code == 2
    assert re.fullmatch(r"error: .*missing is not a folder.*\n", err)


def plain_network(images: Any) -> Any:
    return images[:, 0, :4, 0] / 255.0


def test_folders_that_hold_no_savedmodel(
    saved: dict[str, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "given"
    assert "given is no folder" in refused("--saved-model", folder)
    folder.mkdir()
    assert "selected_tags.csv is missing" in refused("--saved-model", folder)
    write_tags(folder, 17)
    assert "no saved_model.pb" in refused("--saved-model", folder)
    model = folder / "saved_model.pb"
    model.write_bytes(b"")
    assert "is empty" in refused("--saved-model", folder)
    model.write_bytes(b"\x00rubbish" * 100)
    assert "is damaged" in refused("--saved-model", folder)
    good = (saved["vit"] / "saved_model.pb").read_bytes()
    model.write_bytes(good)
    assert "bytes of variables" in refused("--saved-model", folder)
    shutil.copytree(saved["vit"] / "variables", folder / "variables")
    index = folder / "variables" / "variables.index"
    index.write_bytes(b"\xff" * index.stat().st_size)
    assert "is damaged" in refused("--saved-model", folder)
    shutil.copy(saved["vit"] / "variables" / "variables.index", index)
    (values,) = (folder / "variables").glob("*.data-*")
    values.write_bytes(values.read_bytes()[:-1000])
    assert "is damaged" in refused("--saved-model", folder)


def test_flipped_bytes_in_the_savedmodel(
    saved: dict[str, Path], tmp_path: Path, export: Export
) -> None:
    """A damaged saved_model.pb is refused in one line, or still gives TensorFlow's answers."""
    folder = tmp_path / "flipped"
    shutil.copytree(saved["old keras"], folder)
    good = (folder / "saved_model.pb").read_bytes()
    dice = random.Random(2)
    for _ in range(25):
        bad = bytearray(good)
        for _ in range(dice.choice((1, 20))):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        (folder / "saved_model.pb").write_bytes(bad)
        code, _, err = export("--saved-model", folder)
        assert (code, err.count("\n")) in ((2, 1), (0, 0)), err


def test_signatures_that_are_no_tagger(tmp_path: Path, refused: Callable[..., str]) -> None:
    def given(folder: str, network: Callable[[Any], Any] = plain_network, **options: Any) -> str:
        return refused("--saved-model", save(tmp_path / folder, network, **options))

    assert "no signature serving_default" in given("unnamed", name="other")
    assert "batches of 2 only" in given("fixed", shape=(2, 8, 8, 3))
    assert "not float32 (None, 3, 8, 8)" in given("nchw", shape=(None, 3, 8, 8))
    assert "not float32 (None, None, None, 3)" in given("any size", shape=(None, None, None, 3))
    cast = given("bytes", lambda x: tf.cast(x[:, 0, :4, 0], tf.float32), dtype=tf.uint8)
    assert "not uint8 (None, 8, 8, 3)" in cast
    assert "not float32 (None, 8, 8, 3)" in given("no table", lambda x: x + 1)
    two = given("two", lambda x: {"a": plain_network(x), "b": plain_network(x)})
    assert "not float32 (None, 4), float32 (None, 4)" in two
    module = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3])
    module.both = tf.function(lambda a, b: plain_network(a + b), input_signature=[spec, spec])
    tf.saved_model.save(module, str(tmp_path / "pair"), signatures=module.both)
    write_tags(tmp_path / "pair", 4)
    assert "must take one float32 batch" in refused("--saved-model", tmp_path / "pair")


def test_tags_that_do_not_fit(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = save(tmp_path / "model", plain_network, tags=5)
    assert "names 5 tags and the SavedModel gives 4 scores" in refused("--saved-model", folder)
    tags = folder / export_sw.TAGS
    for content in (b"", b"a,b\n1,2\n"):
        tags.write_bytes(content)
        assert "no columns name and category" in refused("--saved-model", folder)
    for content in (b"\xff\xfe\x00", b"name,category\n" + b'"' + b"x" * 200_000):
        tags.write_bytes(content)
        assert "is not a text file of tags" in refused("--saved-model", folder)


def test_networks_that_do_more_than_compute(tmp_path: Path, refused: Callable[..., str]) -> None:
    written = tmp_path / "written"

    def writes(images: Any) -> Any:
        tf.io.write_file(str(written), "x")
        return plain_network(images)

    def reads(images: Any) -> Any:
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return plain_network(images) + tf.cast(size, tf.float32)

    def counts(images: Any) -> Any:
        state.assign_add(1.0)
        return plain_network(images) + state

    def looks_up(images: Any) -> Any:
        return plain_network(images) + tf.cast(table.lookup(tf.constant([1])), tf.float32)

    state = tf.Variable(0.0)
    pairs = tf.lookup.KeyValueTensorInitializer([1], [2])
    table = tf.lookup.StaticHashTable(pairs, 0)
    kept = SimpleNamespace(writes=None, reads=None, counts=state, looks_up=table)
    expected = {
        writes: "the operation WriteFile",
        reads: "the operation ReadFile",
        counts: "the operation AssignAddVariableOp",
        looks_up: "holds a table",
    }
    for network, line in expected.items():
        name = network.__name__
        folder = save(tmp_path / name, network, variables=getattr(kept, name))
        written.unlink(missing_ok=True)
        assert line in refused("--saved-model", folder)
        assert not written.exists()


def test_networks_that_onnx_cannot_hold(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(images: Any) -> Any:
        return tf.math.betainc(plain_network(images), plain_network(images), 0.5)

    def loop(images: Any) -> Any:
        x = plain_network(images)
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 9.0, lambda y: [y * 2.0 + 0.1], [x])[0]

    big = save(tmp_path / "big", plain_network)
    monkeypatch.setattr(convert, "LARGEST_FILE", 200)
    assert "one ONNX file can hold only" in refused("--saved-model", big)
    monkeypatch.undo()
    assert "Betainc" in refused("--saved-model", save(tmp_path / "strange", strange))
    assert "a loop or a branch" in refused("--saved-model", save(tmp_path / "loop", loop))


def test_a_second_run_names_the_holder(
    saved: dict[str, Path], data: Path, refused: Callable[..., str]
) -> None:
    from arena import files

    with files.lock(DataFolder(data), "export_sw"):
        assert "in use by export_sw.py" in refused("--saved-model", saved["old keras"])


def printed(hub: SimpleNamespace, code: str) -> str:
    """What a fresh interpreter prints: the environment counts when huggingface_hub is imported."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **hub.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


def test_hub_failures_each_have_their_line(hub: SimpleNamespace, data: Path) -> None:
    def failure(*args: str, limit: Callable[[], None] | None = None, **changed: str) -> str:
        ended = script(data, *args, limit=limit, **{**hub.environment, **changed})
        assert ended.returncode == 2, ended
        assert (ended.stdout, ended.stderr.count("\n")) == ("", 1), ended
        assert ended.stderr.startswith("error: ")
        assert "hf_" not in ended.stderr
        assert not list(data.glob("*.onnx"))
        return ended.stderr

    shutil.copytree(hub.folder / REPO, hub.folder / "gated/tagger")
    shutil.copytree(hub.folder / REPO, hub.folder / "no/tags")
    (hub.folder / "no/tags" / export_sw.TAGS).unlink()
    lines = {
        "missing repository": failure("--repo", "no/body"),
        "not a name": failure("--repo", "a b//c"),
        "missing revision": failure("--revision", "v9"),
        "missing file": failure("--repo", "no/tags"),
        "gated, no token": failure("--repo", "gated/tagger"),
        "gated, wrong token": failure("--repo", "gated/tagger", HF_TOKEN="hf_wrong"),
        "offline": failure(HF_HUB_OFFLINE="1"),
        "no connection": failure(HF_ENDPOINT="http://user:hf_pass@127.0.0.1:9"),
        "disk full": failure(limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))),
    }
    expected = {
        "missing repository": "there is no",
        "not a name": "not the name of a hub repository",
        "missing revision": "has no revision v9",
        "missing file": "has no file selected_tags.csv",
        "gated, no token": "is gated",
        "gated, wrong token": "is gated",
        "offline": "HF_HUB_OFFLINE is set",
        "no connection": "cannot reach http://127.0.0.1:9",
        "disk full": "no room for",
    }
    for name, line in lines.items():
        assert expected[name] in line

    whole, answer = hub.server.RequestHandlerClass, hub.server.hub.answer

    class Resetting(whole):  # type: ignore[misc, valid-type]
        def _send(self, given: Any, fault: str | None = None) -> None:
            late = self.command == "GET" and "variables.data" in self.path
            super()._send(given, "reset" if late else fault)

    hub.server.RequestHandlerClass = Resetting
    assert "was interrupted" in failure()
    hub.server.RequestHandlerClass = whole
    for status, line in (
        (503, "is failing (HTTP 503)"),
        (429, "fewer requests"),
        (418, "HTTP 418"),
    ):
        refusal = stand_in.Answer(status, "text/plain", b"")
        hub.server.hub.answer = lambda path, token, refusal=refusal: refusal
        assert line in failure(HF_HOME=f"{hub.environment['HF_HOME']}{status}")
    page = stand_in.Answer(200, "text/html", b"<html>a portal</html>")
    hub.server.hub.answer = lambda path, token: page
    assert "does not answer like a model hub" in failure(HF_HOME=str(data / "fresh"))
    hub.server.hub.answer = answer

    # Whatever was cut short above, a run without faults has every file whole.
    code = f"from arena import hub; print(hub.fetch_many({REPO!r}, 'v2.0', {export_sw.NEEDED!r}))"
    got = Path(printed(hub, code).strip())
    for path in (p for p in got.rglob("*") if p.is_file()):
        assert path.read_bytes() == (hub.folder / REPO / path.relative_to(got)).read_bytes()
    assert not (got / "model.onnx").exists()
    assert not list(got.parent.parent.rglob("*.incomplete"))


def planted(tmp_path: Path) -> dict[str, Any]:
    """What a hub can lie about so that a file lands on `tmp_path`/planted/evil.py, absolute and
    relative to each folder of the cache.
    """
    absolute = str(tmp_path / "planted" / "evil.py")
    up = "../" * 12 + absolute.lstrip("/")
    elsewhere = {"Location": "http://127.0.0.2:9/signed"}
    lies: dict[str, Any] = {}
    for kind, name in (("absolute", absolute), ("relative", up), ("folder", "a/b"), ("empty", "")):
        lies |= {
            f"{kind} ETag": {"ETag": f'"{name}"'},
            f"{kind} weak ETag": {"ETag": f'W/"{name}"'},
            f"{kind} linked ETag": {"X-Linked-ETag": f'"{name}"', "ETag": '"good"'},
            f"{kind} ETag of a redirect": {"ETag": f'"{name}"'} | elsewhere,
            f"{kind} linked ETag of a redirect": {"X-Linked-ETag": f'"{name}"'} | elsewhere,
            f"{kind} commit": {"X-Repo-Commit": name},
            f"{kind} sha": {"sha": name},
            f"{kind} oid": {"oid": name},
        }
    del lies["empty linked ETag"], lies["empty linked ETag of a redirect"]  # Counts as none.
    return lies | {
        "long ETag": {"ETag": f'"{"a" * 129}"'},
        "ETag with a dot": {"ETag": '".."'},
        "bare ETag": {"ETag": absolute},
    }


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below one, with the files' contents."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_hub_plants_no_file(hub: SimpleNamespace, tmp_path: Path) -> None:
    """For the two ways that the scripts fetch by: one file (validate.py), many (export_sw.py)."""
    code = f"""
import os, sys, json
from arena import hub
from arena.cli import UserError
from huggingface_hub import constants
for line in sys.stdin:
    constants.HF_HUB_CACHE = line.split()[1]
    try:
        if line.startswith("one"):
            hub.fetch({REPO!r}, "v2.0", line.split()[2])
        else:
            hub.fetch_many({REPO!r}, "v2.0", {export_sw.NEEDED!r})
        print("fetched", flush=True)
    except UserError as error:
        print(error, flush=True)
"""
    hub.server.hub.lies = {"X-Linked-ETag": '"0aZ_-9"', "ETag": "/unused"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **hub.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout

        def told(how: str, name: str) -> tuple[str, Path]:
            cache = tmp_path / "caches" / how / name.replace(" ", "_")
            process.stdin.write(f"{how} {cache} {export_sw.TAGS}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return process.stdout.readline(), cache  # type: ignore[union-attr]

        for how in ("one", "many"):
            said, cache = told(how, "good")
            assert said == "fetched\n"
            assert (cache / f"models--{REPO.replace('/', '--')}" / "blobs" / "0aZ_-9").is_file()
        for name, lies in planted(tmp_path).items():
            for how in ("one", "many"):
                if how == "one" and name.split()[1] in ("sha", "oid"):
                    continue
                hub.server.hub.lies = lies
                (tmp_path / "planted").mkdir(exist_ok=True)
                said, cache = told(how, name)
                hub.server.hub.lies = {}
                assert said.startswith(hub.server.url), (how, name, said)
                assert "answered with an unsafe file name, and nothing was written" in said
                assert "HF_ENDPOINT" in said
                assert tree(tmp_path / "planted") == {}
                kept = [path for path, content in tree(cache).items() if content is not None]
                sources = {path.read_bytes() for path in hub.folder.rglob("*") if path.is_file()}
                assert not any((cache / path).read_bytes() in sources for path in kept)
        process.stdin.close()


def test_the_scripts_name_a_hub_that_would_plant_files(
    hub: SimpleNamespace, data: Path, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    hub.server.hub.lies = {"ETag": f'"{planted}"'}
    make_data(data, 2)
    far = {"source": REPO, "revision": "v2.0", "tags": export_sw.TAGS}
    card = make_model(data, "far", ["a"], card=far)
    for ended in (
        run_script("export_sw.py", "--data", data, env=hub.environment),
        run_script("validate.py", "--data", data, "--models", card, env=hub.environment),
    ):
        refused_by(ended, hub.server.url, "unsafe file name", "check HF_ENDPOINT")
    assert not planted.exists()


def test_a_missing_file_plants_none_either(hub: SimpleNamespace, tmp_path: Path) -> None:
    hub.server.hub.lies = {"X-Repo-Commit": str(tmp_path / "planted")}
    code = f"""
from arena import hub
from arena.cli import UserError
try:
    hub.fetch({REPO!r}, "v2.0", "none.py")
except UserError as error:
    print(error)
"""
    assert "unsafe file name" in printed(hub, code)
    assert not (tmp_path / "planted").exists()


@given(st.text() | st.from_regex(r"[\w-]{0,130}", fullmatch=True) | st.none() | st.integers())
def test_safe_names_are_plain_names(name: Any) -> None:
    from arena import hub

    plain = isinstance(name, str) and 1 <= len(name) <= 128 and name.isascii()
    plain = plain and all(c.isalnum() or c in "_-" for c in name)
    assert hub.is_safe_name(name) == plain


def test_fetch_and_cached(hub: SimpleNamespace) -> None:
    code = f"""
from arena import hub
from arena.cli import UserError
repo = {REPO!r}
print(hub.cached(repo, "v2.0", "model.onnx"), hub.cached("not a name", "v2.0", "model.onnx"))
print(hub.fetch(repo, "v2.0", "model.onnx").read_text())
print(hub.cached(repo, "v2.0", "model.onnx"), hub.cached(repo, "v1.0", "model.onnx"))
for args in (
    (repo, "v2.0", "x.bin"), (repo, "v9", "x"), ("no/body", "v2.0", "x"), ("a//b", "v2.0", "x")
):
    try:
        hub.fetch(*args)
    except UserError as error:
        print(error)
"""
    first, content, second, *errors = printed(hub, code).splitlines()
    assert (first, content, second) == ("False False", "never fetched", "True False")
    for line, part in zip(
        errors, ("has no file x.bin", "no revision v9", "there is no", "not the name"), strict=True
    ):
        assert part in line
