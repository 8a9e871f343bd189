"""What reaches the terminal: nothing but printable letters, whoever chose the names."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from arena import cli
from arena.cli import plain
from arena.report import text
from demo.server import serve
from demo.tiny import CARD, IMAGE, make_data, make_model, toml
from tests.download.helpers import make_site
from tests.helpers import ROOT, Ended, call, refused

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

SCRIPTS = ("download.py", "trainable.py", "export_sw.py", "validate.py")
# A title, a cleared screen, line ends of every kind, a turned direction, 8-bit control codes.
NASTY = "\x1b]0;title\x07\x1b[2J\x1b[1A\r\n\x0b\x85\u2028\u202e\u2066\x9b31m\x7f\ufeff"
# What a path or an argument can hold: bytes that are no UTF-8 arrive as lone surrogates.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/")
    | st.sampled_from(NASTY)
    | st.integers(0xDC80, 0xDCFF).map(chr),
    min_size=1,
    max_size=60,
)
FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def clean(ended: Ended, code: int | None = 2) -> str:
    """Check what a script printed, and that an error is one line; everything it printed."""
    printed = ended.out + ended.err
    for line in printed.split("\n"):
        assert line.isprintable(), repr(line)
    printed.encode()
    assert "Traceback" not in printed
    if code is not None:
        assert ended.code == code, ended
    if code == 2:
        errors = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
        assert len(errors) == 1 and errors[0].startswith("error: "), ended.err
    return printed


@given(st.text(st.characters(exclude_categories=[])))
def test_plain_text_is_printable_and_says_it_all(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    shown.encode()
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text
    if "\\" not in text:
        assert shown.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


def test_nothing_else_prints() -> None:
    """Only arena/cli.py writes to the terminal, or knows the bars that do."""

    def speaks(node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id == "print"
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or ""
            return "tqdm" in names or module == "tqdm" or (module == "sys" and "stdout" in names)
        if isinstance(node, ast.Attribute) and node.attr in ("write", "writelines", "buffer"):
            return ast.unparse(node.value) in ("sys.stdout", "sys.stderr", "sys.__stdout__")
        return False

    paths = [ROOT / script for script in SCRIPTS]
    for folder in ("arena", "models", "danbooru_metadata"):
        paths += (ROOT / folder).rglob("*.py")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if speaks(node)
    ]
    assert found
    assert {place.split(":")[0] for place in found} == {"arena/cli.py", "arena/__init__.py"}


def test_output_errors_warnings_and_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.say("", NASTY, "é 犬")
    cli.warn(NASTY)
    for error in (cli.UserError(NASTY), OSError(2, NASTY, NASTY), ValueError(NASTY)):

        def main(error: Exception = error) -> None:
            raise error

        with pytest.raises(SystemExit) as end:
            cli.run(main)
        assert end.value.code == (1 if isinstance(error, ValueError) else 2)
    out, err = capsys.readouterr()
    assert out == f"\n{plain(NASTY)}\né 犬\n"
    assert all(line.isprintable() for line in err.split("\n"))
    assert err.startswith(f"warning: {plain(NASTY)}\nerror: {plain(NASTY)}\nerror: ")
    assert "Traceback" in err and f"ValueError: {plain(NASTY).split(chr(92) + 'n')[0]}" in err
    for there in (True, False):
        name = "tqdm" if there else "ProgressLines"
        monkeypatch.setattr(cli, name, lambda items, **options: options["desc"])
        monkeypatch.setattr(sys.stderr, "isatty", lambda there=there: there)
        assert cli.progress(desc=NASTY, total=1) == plain(NASTY)


@pytest.mark.parametrize("make", [lambda: np.empty(10**15), lambda: torch.empty(10**15)])
def test_too_little_memory_is_one_line(
    capsys: pytest.CaptureFixture[str], make: Callable[[], object]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: print(make()))
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: memory ran out") and err.count("\n") == 1


# --- Arguments and paths ------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
@FEW
@given(name=NAMES)
def test_arguments(script: str, name: str, tmp_path: Path) -> None:
    clean(call(script, "--data", tmp_path, f"--no-such-{name}"))
    clean(call(script, "--data", f"{tmp_path}/none/{name}"))


@FEW
@given(name=NAMES)
def test_values_of_options(name: str, tmp_path: Path) -> None:
    lists = f"{tmp_path}/{name}"
    clean(call("download.py", "--data", tmp_path, "--posts", name + "x"))
    clean(call("download.py", "--data", tmp_path, "--rating", name + "x"))
    clean(call("download.py", "--data", tmp_path, "--url", f"http://[{name}"))
    clean(call("download.py", "--data", tmp_path, "--post-ids", f"{lists}/none"))
    clean(call("export_sw.py", "--data", tmp_path, "--saved-model", f"{lists}/none"))
    clean(call("validate.py", "--data", tmp_path, "--models", f"{lists}/none.toml"))
    clean(call("validate.py", "--data", tmp_path, "--device", name))


@FEW
@given(text=NAMES)
def test_lists_of_posts(text: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(f"x{text}".encode("utf-8", "surrogateescape"))
    clean(call("download.py", "--data", tmp_path, "--post-ids", path))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_defaults_from_the_environment(script: str) -> None:
    env = {"DANBOORU_URL": f"http://x/{NASTY}", "COLUMNS": "500"}
    assert "--data" in clean(call(script, "--help", env=env), code=0)


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """From the shell, as its bytes: what is printed of it is not what ends the run."""
    make_site(tmp_path / "site", 3)
    data = os.fsencode(tmp_path) + b"/\xff\x1b[2J \xe2\x80\xae"
    os.mkdir(data)  # noqa: PTH102 (a path of bytes)
    with serve(tmp_path / "site") as server:
        args = [sys.executable, "download.py", "--url", server.url, "--api-interval", "0", "--data"]
        for encoding in ("utf-8", "ascii"):
            ended = subprocess.run(
                [*map(os.fsencode, args), data],
                cwd=ROOT,
                env={**os.environ, "PYTHONIOENCODING": encoding},
                capture_output=True,
                check=False,
            )
            assert (ended.returncode, ended.stderr) == (0, b"")
            shown = ended.stdout.decode(encoding)
            assert "posts.jsonl: 3 posts" in shown
            assert r"\udcff\x1b[2J \u202e" in shown
            assert all(line.isprintable() for line in shown.split("\n"))


# --- Models -------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    make_data(tmp_path, 4)
    yield tmp_path


def validate(data: Path, card: Path, *more: object) -> Ended:
    fast = ("--workers", 1, "--min-count", 1, "--device", "cpu")
    return call("validate.py", "--data", data, "--models", card, *fast, *more)


TAGS = [f"tag_{number}" for number in range(12)]


def test_labels(data: Path) -> None:
    card = make_model(data, "tiny", TAGS, card={"label": NASTY})
    printed = clean(validate(data, card), code=0)
    assert plain(NASTY) in printed


def test_tag_names_and_categories(data: Path) -> None:
    card = make_model(data, "tiny", TAGS, card={"tags": "tags.csv", "threshold": {"general": 0.5}})
    for names in ([f"{NASTY}{tag}" for tag in TAGS], [NASTY, *TAGS[1:]]):
        rows = "".join(f'"{name}","{NASTY}"\n' for name in names)
        (data / "tags.csv").write_text("name,category\n" + rows, newline="")
        clean(validate(data, card), code=None)


def test_names_in_an_onnx_file(data: Path) -> None:
    card = make_model(data, "tiny", TAGS)
    whole = onnx.load(data / "tiny.onnx")

    def shown(model: onnx.ModelProto) -> str:
        onnx.save(model, data / "tiny.onnx")
        return clean(validate(data, card))

    more = onnx.ModelProto()
    more.CopyFrom(whole)
    more.graph.input.append(helper.make_tensor_value_info(NASTY, TensorProto.FLOAT, [1]))
    assert "\\x1b" in shown(more)
    more.CopyFrom(whole)
    more.graph.input[0].type.tensor_type.shape.dim[1].dim_param = NASTY
    more.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 7
    shown(more)
    more.CopyFrom(whole)
    more.graph.node[0].op_type = NASTY
    shown(more)
    more.CopyFrom(whole)
    more.graph.output[0].name = NASTY
    shown(more)


@pytest.mark.parametrize("key", ["label", "kind", "source", "file", "tags", "activation"])
def test_every_text_of_a_card(key: str, data: Path) -> None:
    make_model(data, "tiny", TAGS)
    fields = {**CARD, "file": "tiny.onnx", "tags": "tiny.txt", key: NASTY}
    path = data / f"card{NASTY}.toml".replace("/", "")
    path.write_text(toml(fields, IMAGE))
    clean(validate(data, path), code=None)
    path.write_text(toml({**fields, NASTY: 1}, IMAGE).replace(f"{NASTY} =", '"\\u001b[2J" ='))
    clean(validate(data, path))


def test_the_list_of_models(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import card

    folder = tmp_path / "cards"
    folder.mkdir()
    (folder / "one.toml").write_text(toml({**CARD, "label": NASTY}, IMAGE))
    monkeypatch.setattr(card, "FOLDER", folder)
    printed = clean(call("validate.py", "--data", data, "--list-models"), code=0)
    assert plain(NASTY) in printed and len(printed.splitlines()) == 3


def test_reports_use_the_same_words() -> None:
    assert text.plain is plain  # type: ignore[attr-defined]


def test_paths_begin_at_home_where_they_say_so(tmp_path: Path) -> None:
    given = ("--data", tmp_path, "--saved-model", "~/model")
    refused(call("export_sw.py", *given, env={"HOME": str(tmp_path)}), f"{tmp_path}/model is no")
    for option in ("--data", "--saved-model"):
        refused(call("export_sw.py", option, "~no-such-user/x"), "home of no user here")
