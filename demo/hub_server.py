"""The model hub's side of the stand-in: its answers, and the storage of its large files.

As on the real hub, a small file's address leads to another on the hub (307), and a large file's to
the storage (302), another server, whose addresses work without a token and refuse one. A data set's
repository is datasets/<org>/<name> in addresses and in the hub folder; a model's is <org>/<name>.
"""

import functools
import hashlib
import json
import re
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from demo.answer import Answer, Json, json_answer

CHUNK = 65536
DEFAULT_REVISIONS = ("main", "v2.0", "v1.0")
LARGE = re.compile(r".*\.(onnx|safetensors|pb|bin|msgpack|pt)|(.*/)?variables\.data-.*")
REPO = "(?:datasets/)?[^/]+/[^/]+"
API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|xet-read-token)/([^/]+))?/?"
)
FILE = re.compile(rf"/({REPO})/(resolve)/([^/]+)/(.+)")
CACHE = re.compile(r"/api/(resolve-cache)/(models|datasets)/([^/]+/[^/]+)/([^/]+)/(.+)")


@dataclass(frozen=True)
class Xet:
    """The Xet storage that large files are said to lie in: its address, which the token to it is
    given out with, or the HTTP status that refuses one. There is no such storage behind it."""

    url: str
    refusal: int = 0


@dataclass
class Hub:
    """The model hub's answers, from a hub folder.

    `tokens` maps a gated repository to the token that opens it, `renamed` a repository's old name
    to the new one. `lies` are told in place of the truth: headers of a file by their name (with
    `Location` its answer is a redirect), `sha` of a repository, `oid` of the files in its tree,
    which then count as large. `url` and `storage` are the servers' own addresses.
    """

    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    xet: Xet | None = None
    url: str = ""
    storage: str = ""

    def answer(self, path: str, token: str | None) -> Answer | None:
        """The answer to a hub path, None where the path is not the hub's."""
        name = ""
        if path == "/api/agent-harnesses":
            return json_answer({"error": "Not found"}, 404)
        if match := API.fullmatch(path):
            repo = _repository(match[1], match[2])
            ask, revision = match[3] or "revision", match[4] or "main"
        elif match := FILE.fullmatch(path):
            repo, ask, revision, name = match.groups()
        elif match := CACHE.fullmatch(path):
            ask, kind, own, revision, name = match.groups()
            repo = _repository(kind, own)
        else:
            return None
        if repo in self.renamed:
            there = path.replace(repo, self.renamed[repo], 1)
            return _redirect(307, urllib.parse.quote(there))
        folder = self.folder / repo
        if ".." in repo.split("/") or not folder.is_dir():
            # It says the same of a private repository.
            return _hub_error(404 if token else 401, "RepoNotFound", "Repository not found")
        files = _files(folder)
        sha, revisions = _revisions(folder, files)
        if revision not in revisions and revision != sha:
            return _hub_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if ask == "revision":
            siblings = [{"rfilename": file} for file in files]
            told = self.lies.get("sha", sha)
            own = repo.removeprefix("datasets/")
            return json_answer({"id": own, "modelId": own, "sha": told, "siblings": siblings})
        if ask == "tree":
            return json_answer([self._tree_entry(file, files[file]) for file in files])
        if repo in self.tokens and token != self.tokens[repo]:
            return _hub_error(403 if token else 401, "GatedRepo", f"Access to {repo} is restricted")
        if ask == "xet-read-token":
            return self._xet_token()
        return self._file(repo, ask, sha, name, files.get(name))

    def _file(self, repo: str, ask: str, sha: str, name: str, path: Path | None) -> Answer:
        """The answer to a file's address, or to the one in the hub's cache that it leads to."""
        lies = {name: value for name, value in self.lies.items() if name not in ("sha", "oid")}
        commit = {"X-Repo-Commit": sha} | lies
        if path is None:
            missing = _hub_error(404, "EntryNotFound", "Entry not found")
            return missing._replace(headers=missing.headers | commit)
        size, quoted = str(path.stat().st_size), urllib.parse.quote(name)
        if LARGE.fullmatch(name):
            sha256 = _sha256(path)
            disposition = urllib.parse.quote(f'inline; filename="{path.name}";')
            headers = {"X-Linked-Size": size, "X-Linked-ETag": f'"{sha256}"'} | self._xet(repo, sha)
            if self.xet:
                headers["X-Xet-Hash"] = _xet_hash(path)
            if "ETag" in lies:
                del headers["X-Linked-ETag"]  # It would be believed in place of the lie.
            where = f"{self.storage}/{repo}/{sha256}/{quoted}?response-content-disposition="
            return _redirect(302, where + disposition, headers | commit)
        headers = {"ETag": f'"{_etag(path)}"'} | commit
        if ask == "resolve":
            return _redirect(307, f"/api/resolve-cache/{_place(repo)}/{sha}/{quoted}", headers)
        if "Location" in lies:
            return _redirect(302, lies["Location"], headers)
        return Answer(200, "application/octet-stream", path, headers)

    def _tree_entry(self, name: str, path: Path) -> Json:
        size, oid, told = path.stat().st_size, _etag(path), self.lies.get("oid")
        entry = {"type": "file", "path": name, "size": size, "oid": oid}
        if told is None and not LARGE.fullmatch(name):
            return entry
        lfs = {"oid": _sha256(path) if told is None else told, "size": size, "pointerSize": 130}
        # Where told a lie, in the form that makes the library believe it without another request.
        hashed = self.xet or told is not None
        return entry | {"lfs": lfs} | ({"xetHash": _xet_hash(path)} if hashed else {})

    def _xet(self, repo: str, sha: str) -> dict[str, str]:
        """The header that leads to a token of the Xet storage."""
        where = f"{self.url}/api/{_place(repo)}/xet-read-token/{sha}"
        return {"Link": f'<{where}>; rel="xet-auth"'} if self.xet else {}

    def _xet_token(self) -> Answer:
        if self.xet is None or self.xet.refusal:
            return json_answer({"error": "No token"}, self.xet.refusal if self.xet else 404)
        headers = {
            "X-Xet-Cas-Url": self.xet.url,
            "X-Xet-Access-Token": "xet_secret",
            "X-Xet-Token-Expiration": str(int(time.time()) + 3600),
        }
        return json_answer({})._replace(headers=headers)


@dataclass
class Storage:
    """The host of the large files, at addresses of their own, which lead to nothing else."""

    folder: Path

    def answer(self, path: str, token: str | None) -> Answer | None:
        """The answer to any path. A token has no business here."""
        if token:
            return Answer(400, "application/xml", b"<Error><Code>InvalidArgument</Code></Error>")
        if (match := re.fullmatch(rf"/({REPO})/([0-9a-f]{{64}})/(.+)", path)) is None:
            return Answer(403, "application/xml", b"<Error><Code>AccessDenied</Code></Error>")
        file = _files(self.folder / match[1]).get(match[3])
        if file is None or _sha256(file) != match[2]:
            return Answer(404, "application/xml", b"<Error><Code>NoSuchKey</Code></Error>")
        return Answer(200, "application/octet-stream", file, {"ETag": f'"{match[2][:32]}-1"'})


def _repository(kind: str, name: str) -> str:
    """A repository as it is called in addresses of files: a data set's with its kind."""
    return name if kind == "models" else f"{kind}/{name}"


def _place(repo: str) -> str:
    """A repository as it is called in addresses of the API: always with its kind."""
    return repo if repo.startswith("datasets/") else f"models/{repo}"


def _files(folder: Path) -> dict[str, Path]:
    """A repository's files by their name."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".revisions"
    }


def _revisions(folder: Path, files: dict[str, Path]) -> tuple[str, list[str]]:
    """(the commit, the names that stand for it)."""
    listed = folder / ".revisions"
    names = listed.read_text().split() if listed.is_file() else list(DEFAULT_REVISIONS)
    # A full commit among the revisions is the one that all the others stand for.
    commits = [name for name in names if re.fullmatch("[0-9a-f]{40}", name)]
    held = "".join(f"{file} {_etag(path)}" for file, path in files.items())
    return commits[0] if commits else hashlib.sha1(held.encode()).hexdigest(), names


def _etag(path: Path) -> str:
    """The file's identity as the hub gives it for small files: the SHA-1 of git's blob."""
    return _hash(path, *_state(path), "sha1")


def _sha256(path: Path) -> str:
    """The same for large files."""
    return _hash(path, *_state(path), "sha256")


def _xet_hash(path: Path) -> str:
    """What stands for the same in Xet storage."""
    return hashlib.sha256(_sha256(path).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=1000)
def _hash(path: Path, changed: int, size: int, kind: str) -> str:
    made = hashlib.new(kind, b"blob %d\0" % size if kind == "sha1" else b"")
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            made.update(chunk)
    return made.hexdigest()


def _redirect(status: int, where: str, headers: dict[str, str] | None = None) -> Answer:
    body = f"Redirecting to {where}".encode()
    return Answer(status, "text/plain; charset=utf-8", body, {"Location": where} | (headers or {}))


def _hub_error(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return Answer(status, "application/json", json.dumps({"error": message}).encode(), headers)
