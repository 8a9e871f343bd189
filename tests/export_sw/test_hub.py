"""What a model hub can get wrong, and what one that lies cannot do."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import export_sw
from demo.answer import Answer
from demo.tiny import make_data, make_model
from tests.export_sw.running import REPO, script
from tests.helpers import refused as refused_by
from tests.helpers import run as run_script

import pytest
from hypothesis import given
from hypothesis import strategies as st


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


@pytest.mark.slow
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

    storage = hub.server.storage
    whole, answer = storage.RequestHandlerClass, hub.server.hub.answer

    class Resetting(whole):  # type: ignore[misc, valid-type]
        def _send(self, given: Any, fault: str | None = None) -> None:
            late = self.command == "GET" and "variables.data" in self.path
            super()._send(given, "reset" if late else fault)

    storage.RequestHandlerClass = Resetting
    assert "was interrupted" in failure()
    storage.RequestHandlerClass = whole
    for status, line in (
        (503, "is failing (HTTP 503)"),
        (429, "fewer requests"),
        (418, "HTTP 418"),
    ):
        refusal = Answer(status, "text/plain", b"")
        hub.server.hub.answer = lambda path, token, refusal=refusal: refusal
        assert line in failure(HF_HOME=f"{hub.environment['HF_HOME']}{status}")
    page = Answer(200, "text/html", b"<html>a portal</html>")
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


@pytest.mark.slow
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
            # All files have one name here, so that of many only one is whole.
            assert said == "fetched\n" or (how == "many" and "is cut short" in said)
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    from arena import hub_client

    plain = isinstance(name, str) and 1 <= len(name) <= 128 and name.isascii()
    plain = plain and all(c.isalnum() or c in "_-" for c in name)
    assert hub_client.is_safe_name(name) == plain


@pytest.mark.slow
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
