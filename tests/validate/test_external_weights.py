"""ONNX files whose weights lie in another file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from arena.cli import UserError
from demo.tiny import make_data, make_model
from models import card as cards
from models.card import ModelCard
from models.tagger import refuse_external_weights
from tests.helpers import refused
from tests.validate.helpers import TAGS, ok, to_run, validate

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    network = onnx.load(tmp_path / "a.onnx")
    onnx.save_model(
        network,
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="a.data",
        size_threshold=0,
    )
    refused(validate(tmp_path, model), "a.onnx", "another file")


def test_weights_of_a_constant_in_another_file_are_refused_and_can_be_brought_in(
    tmp_path: Path,
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    network = onnx.load(tmp_path / "a.onnx")
    weight = network.graph.initializer.pop(0)
    (tmp_path / "a.data").write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, "a.data")
    weight.ClearField("raw_data")
    constant = onnx.helper.make_node("Constant", [], [weight.name], value=weight)
    network.graph.node.insert(0, constant)
    (tmp_path / "a.onnx").write_bytes(network.SerializeToString())
    ended = validate(tmp_path, model)
    refused(ended, "a.onnx", "another file", "onnx.save(onnx.load(path), other_path)")
    onnx.save(onnx.load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    (tmp_path / "a.data").unlink()
    model.write_text(model.read_text().replace("a.onnx", "b.onnx"))
    assert to_run(ok(validate(tmp_path, model))) == [12]


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
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return cards.card(str(make_model(tmp_path_factory.mktemp("tiny"), "a", TAGS)))


@settings(deadline=None)
@given(
    root=st.sampled_from(ROOTS),
    inner=st.lists(st.sampled_from(INNER), max_size=3),
    place=st.sampled_from(TENSORS),
)
def test_weights_in_another_file_are_refused_wherever_they_hang(
    tiny: ModelCard, root: Callable[[Any], Any], inner: list[Callable[[Any], Any]], place: Any
) -> None:
    network = onnx.load(tiny.path.with_suffix(".onnx"))
    holder = root(network)
    for step in inner:
        holder = step(holder)
    tensor = place(holder)
    card = replace(tiny, file="changed.onnx")
    file = tiny.path.with_name(card.file)
    tensor.name = "inside"
    file.write_bytes(network.SerializeToString())
    refuse_external_weights(card, file)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    file.write_bytes(network.SerializeToString())
    with pytest.raises(UserError, match="another file"):
        refuse_external_weights(card, file)
