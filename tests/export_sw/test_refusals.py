"""SavedModels that export_sw.py must refuse in one line."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import export_sw
from arena.cli import UserError
from arena.export_sw import convert, saved_model
from arena.export_sw.saved_model import tf
from tests.export_sw.networks import plain_network, save, write_tags
from tests.export_sw.running import Export

import numpy as np
import pytest

pytestmark = pytest.mark.slow


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
            told.add(saved_model.why(caught.value))
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
    assert saved_model.why(caught.value) == sizes
    assert saved_model.why(ValueError()) == "ValueError"
    assert saved_model.why(ValueError("\n one \ntwo")) == "two"

    def too_large(images: Any) -> Any:
        side = tf.cast(images[0, 0, 0, :2] * 1e7, tf.int64)
        return plain_network(images) + tf.reduce_sum(tf.random.uniform(side))

    for name, network, line in (
        ("mixed", lambda x: tf.gather(plain_network(x), [9]), "get its files again"),
        ("large", too_large, "OOM when allocating .* more memory"),
    ):
        signature = saved_model.load(save(tmp_path / name, network))
        with pytest.raises(UserError, match=line):
            signature(np.ones((2, 8, 8, 3), np.float32))


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
        assert "no column name" in refused("--saved-model", folder)
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
