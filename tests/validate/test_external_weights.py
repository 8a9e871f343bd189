"""ONNX files whose weights lie in another file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.server import serve
from demo.tiny import make_data, make_model
from models.external import contents, is_inside
from tests.helpers import refused, run
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, to_run, validate

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def external(path: Path, location: str) -> None:
    """Move the weights of an ONNX file into another file beside it."""
    network = onnx.load(path)
    onnx.save_model(network, path, save_as_external_data=True, location=location, size_threshold=0)


def as_constant(path: Path, location: str) -> None:
    """Move one weight to a constant node, and its values into another file."""
    network = onnx.load(path)
    weight = network.graph.initializer.pop(0)
    (path.parent / location).write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, location)
    weight.ClearField("raw_data")
    constant = onnx.helper.make_node("Constant", [], [weight.name], value=weight)
    network.graph.node.insert(0, constant)
    path.write_bytes(network.SerializeToString())


@pytest.mark.parametrize("move", [external, as_constant])
def test_weights_in_another_file_count(tmp_path: Path, move: Callable[[Path, str], None]) -> None:
    make_data(tmp_path, 12)
    whole, split = make_model(tmp_path, "a", TAGS), make_model(tmp_path, "b", TAGS)
    move(tmp_path / "b.onnx", "b.onnx.data")
    ok(validate(tmp_path, whole, split))
    first, second = (saved(tmp_path, name)["predictions"] for name in "ab")
    assert_alike(second, first)
    assert to_run(ok(validate(tmp_path, split))) == [0]
    weights = np.fromfile(tmp_path / "b.onnx.data", np.float32)
    (weights * 2).tofile(tmp_path / "b.onnx.data")
    assert to_run(ok(validate(tmp_path, split))) == [12]
    assert (saved(tmp_path, "b")["predictions"] != second).any()
    (tmp_path / "b.onnx.data").unlink()
    assert "b.onnx.data is missing" in ok(validate(tmp_path, split)).err
    (tmp_path / "b_predictions.pt").unlink()
    refused(validate(tmp_path, split), "b.onnx.data is missing", "put it there")


@pytest.mark.parametrize("place", [external, as_constant])
@pytest.mark.parametrize("location", ["../b.data", "/etc/hostname", "x/../../b", "..", "", "a\\b"])
def test_weights_outside_of_the_folder_are_refused(
    tmp_path: Path, place: Callable[[Path, str], None], location: str
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    place(tmp_path / "a.onnx", "plain.data")
    network = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    held = [*network.graph.initializer, *(node.attribute[0].t for node in network.graph.node[:1])]
    for tensor in held:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (tmp_path / "a.onnx").write_bytes(network.SerializeToString())
    refused(validate(tmp_path, model), "a.onnx keeps weights in", "in its folder")


@pytest.mark.slow
def test_weights_in_another_file_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 6)
    repo = tmp_path / "hub" / "org" / "split"
    (repo / "deep").mkdir(parents=True)
    make_model(repo, "deep/model", TAGS)
    external(repo / "deep" / "model.onnx", "model.onnx.data")
    card = {"source": "org/split", "revision": "main"}
    path = make_model(tmp_path, "split", TAGS, card=card)
    text = path.read_text()
    for name in ("split.onnx", "split.txt"):
        text = text.replace(name, f"deep/{name.replace('split', 'model')}")
    path.write_text(text)
    with serve(None, tmp_path / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        command = ("--data", tmp_path, "--models", path, *QUICK)
        assert to_run(ok(run("validate.py", *command, env=env))) == [6]
        offline = env | {"HF_HUB_OFFLINE": "1"}
        assert to_run(ok(run("validate.py", *command, "--fresh", env=offline))) == [6]


def _graph(holder: Any) -> Any:
    """A graph to put tensors in: a function has none of its own, but its nodes can."""
    return holder if isinstance(holder, onnx.GraphProto) else _attribute(holder).g


def _attribute(holder: Any) -> Any:
    return holder.node.add().attribute.add()


# Every place of an ONNX file that holds nodes, graphs in graphs, and tensors.
ROOTS: list[Callable[[Any], Any]] = [
    lambda model: model.graph,
    lambda model: model.functions.add(),
    lambda model: model.training_info.add().initialization,
    lambda model: model.training_info.add().algorithm,
]
INNER: list[Callable[[Any], Any]] = [
    lambda holder: _attribute(holder).g,
    lambda holder: _attribute(holder).graphs.add(),
]
TENSORS: list[Callable[[Any], Any]] = [
    lambda holder: _graph(holder).initializer.add(),
    lambda holder: _graph(holder).sparse_initializer.add().values,
    lambda holder: _graph(holder).sparse_initializer.add().indices,
    lambda holder: _attribute(holder).t,
    lambda holder: _attribute(holder).tensors.add(),
    lambda holder: _attribute(holder).sparse_tensor.values,
    lambda holder: _attribute(holder).sparse_tensors.add().indices,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny"), "a", TAGS).with_suffix(".onnx")


@settings(deadline=None)
@given(
    root=st.sampled_from(ROOTS),
    inner=st.lists(st.sampled_from(INNER), max_size=3),
    place=st.sampled_from(TENSORS),
)
def test_weights_in_another_file_are_found_wherever_they_hang(
    tiny: Path, root: Callable[[Any], Any], inner: list[Callable[[Any], Any]], place: Any
) -> None:
    network = onnx.load(tiny)
    holder = root(network)
    for step in inner:
        holder = step(holder)
    tensor = place(holder)
    file = tiny.with_name("changed.onnx")
    tensor.name = "inside"
    file.write_bytes(network.SerializeToString())
    assert contents(file).names == []
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    file.write_bytes(network.SerializeToString())
    assert contents(file).names == ["weights.bin"]


@given(st.text(max_size=20) | st.lists(st.sampled_from(["..", "a", ".", "", "b.c"])).map("/".join))
def test_a_name_never_leads_out_of_the_folder(name: str) -> None:
    folder = Path("/folder/of/the/model")
    if is_inside(name):
        assert Path(os.path.normpath(folder / name)).is_relative_to(folder)
