"""The model hub's side of the stand-in."""

import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from demo.answer import Answer, Json
from demo.answer import json_answer as _json

CHUNK = 65536
DEFAULT_REVISIONS = ("main", "v2.0", "v1.0")


@dataclass
class Hub:
    """The model hub's answers, from a hub folder.

    `tokens` maps a gated repository to the token that opens it. `lies` are told in place of the
    truth: headers of a file by their name (with `Location` its answer is a redirect), `sha` of a
    repository, `oid` of the files in its tree, which then count as large.
    """

    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)

    def answer(self, path: str, token: str | None) -> Answer | None:
        """The answer to a hub path, None where the path is not the hub's."""
        if match := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+)?/?", path
        ):
            repo, name = match[1], None
            _, ask, revision = (match[2] or "/revision/main").split("/")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo, revision, name = match[1], match[2], match[3]
            ask = "resolve"
        else:
            return None
        folder = self.folder / repo
        if ".." in repo.split("/") or not folder.is_dir():
            return _hub_error(404, "RepoNotFound", "Repository not found")
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".revisions"
        }
        listed = folder / ".revisions"
        revisions = listed.read_text().split() if listed.is_file() else DEFAULT_REVISIONS
        held = "".join(f"{file} {_etag(files[file])}" for file in files)
        # A full commit among the revisions is the one that all the others stand for.
        commits = [name for name in revisions if re.fullmatch("[0-9a-f]{40}", name)]
        sha = commits[0] if commits else hashlib.sha1(held.encode()).hexdigest()
        if revision not in revisions and revision != sha:
            return _hub_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if ask == "revision":
            siblings = [{"rfilename": file} for file in files]
            told = self.lies.get("sha", sha)
            return _json({"id": repo, "modelId": repo, "sha": told, "siblings": siblings})
        if ask == "tree":
            return _json([_tree_entry(file, files[file], self.lies.get("oid")) for file in files])
        if repo in self.tokens and token != self.tokens[repo]:
            return _hub_error(403 if token else 401, "GatedRepo", f"Access to {repo} is restricted")
        lies = {name: value for name, value in self.lies.items() if name not in ("sha", "oid")}
        commit = {"X-Repo-Commit": sha} | lies
        if name not in files:
            missing = _hub_error(404, "EntryNotFound", "Entry not found")
            return missing._replace(headers=missing.headers | commit)
        headers = {"ETag": f'"{_etag(files[name])}"'} | commit
        status = 302 if "Location" in lies else 200
        return Answer(status, "application/octet-stream", files[name], headers)


def _tree_entry(name: str, path: Path, large: str | None) -> Json:
    size, oid = path.stat().st_size, _etag(path)
    entry = {"type": "file", "path": name, "size": size, "oid": oid}
    if large is None:
        return entry
    lfs = {"oid": large, "size": size, "pointerSize": 130}
    return entry | {"lfs": lfs, "xetHash": hashlib.sha256(oid.encode()).hexdigest()}


def _etag(path: Path) -> str:
    """The file's identity as the hub gives it for small files: the SHA-1 of git's blob."""
    about = path.stat()
    return _blob_sha(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1000)
def _blob_sha(path: Path, changed: int, size: int) -> str:
    sha = hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def _hub_error(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return Answer(status, "application/json", json.dumps({"error": message}).encode(), headers)
