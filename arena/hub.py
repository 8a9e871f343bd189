"""Files from the model hub, kept in huggingface_hub's own cache; each failure in one clear line.

`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` work as huggingface_hub documents them. No
message here quotes a request or the library's own text, so a token cannot end up on a screen.
"""

import errno
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arena.cli import UserError

import httpx2
import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils._http import hf_request_event_hook
from huggingface_hub.utils.tqdm import disable_progress_bars

SAFE_NAME = re.compile("[A-Za-z0-9_-]{1,128}")


class _Client(httpx2.Client):
    """The library's HTTP client, which passes on no answer that would name a file elsewhere.

    huggingface_hub joins an ETag to its folder of blobs, and a commit to its other folders, as
    they come: `/path` or `../../path` would plant a file there.
    """

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The answer, or a UserError before anything has been written because of it."""
        response = super().send(request, **options)
        body = None if options.get("stream") else _json(response)
        if not all(map(is_safe_name, (*_header_names(response), *_body_names(body)))):
            response.close()
            raise UserError(
                f"{_site()} answered with an unsafe file name, and nothing was written under it: "
                "check HF_ENDPOINT"
            )
        return response


def is_safe_name(name: Any) -> bool:
    """Whether what a hub sent as an ETag (quotes off) or a commit can only name a plain file."""
    return isinstance(name, str) and SAFE_NAME.fullmatch(name) is not None


def _header_names(response: httpx2.Response) -> Iterator[str]:
    """The names of files and folders that the library takes from an answer's headers."""
    headers = response.headers
    if (commit := headers.get("X-Repo-Commit")) is not None:
        yield commit
    # The library asks for names by HEAD. Errors and downloads have ETags of their own kind.
    if response.request.method == "HEAD" and not response.is_error:
        etag = headers.get("X-Linked-ETag") or headers.get("ETag")
        if etag is not None:
            yield etag.lstrip("W/").strip('"')


def _body_names(body: Any) -> Iterator[Any]:
    """The same from an answer's JSON: a repository's commit, or the hashes of a list of files."""
    entries = body if isinstance(body, list) else [body]
    for entry in (entry for entry in entries if isinstance(entry, dict)):
        large = entry.get("lfs")
        for part in (entry, large if isinstance(large, dict) else {}):
            yield from (part[key] for key in ("sha", "oid") if part.get(key) is not None)


def _json(response: httpx2.Response) -> Any:
    """An answer's JSON as the library will read it, None where it holds none."""
    try:
        return response.json()
    except ValueError:
        return None


huggingface_hub.set_client_factory(
    lambda: _Client(
        event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=None
    )
)
huggingface_hub.logging.set_verbosity_error()
warnings.filterwarnings("ignore", "Not enough free disk space")  # Our own error says so.
if not sys.stderr.isatty():
    disable_progress_bars()


def fetch(repo: str, revision: str, filename: str) -> Path:
    """The local path of one file of `repo` (org/name) at `revision`, downloaded when not cached.

    Raises UserError, with its own line for each way this can fail.
    """
    with explain_errors(repo, revision, filename):
        return Path(huggingface_hub.hf_hub_download(repo, filename, revision=revision))


def fetch_many(repo: str, revision: str, patterns: Sequence[str]) -> Path:
    """The local folder with the files of `repo` at `revision` that match the shell `patterns`.

    Raises UserError as `fetch` does, and for a pattern that no file of the repository matches.
    """
    what = "a file" if len(patterns) > 1 else patterns[0]
    with explain_errors(repo, revision, what):
        allowed = list(patterns)
        folder = Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=allowed)
        )
    held = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in held):
            raise UserError(_missing_file(repo, revision, pattern))
    return folder


def cached(repo: str, revision: str, filename: str) -> bool:
    """Whether `fetch` of the same arguments would find its file on this machine."""
    try:
        found = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision)
    except errors.HFValidationError:
        return False
    return isinstance(found, str)


def _missing_file(repo: str, revision: str, filename: str) -> str:
    return (
        f"{_site()}/{repo} has no file {filename} at revision {revision}: "
        "check the file name and the revision"
    )


def _site() -> str:
    """The hub's address without a user name or password that HF_ENDPOINT may hold."""
    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def explain_errors(repo: str, revision: str, what: str) -> Iterator[None]:
    """Turn every failure that huggingface_hub documents, or lets through, into a UserError."""
    try:
        yield
    except errors.HFValidationError:
        raise UserError(
            f"'{repo}' is not the name of a hub repository: give it as organisation/name"
        ) from None
    except errors.GatedRepoError:
        raise UserError(
            f"{_site()}/{repo} is gated: ask for access on its page, then set HF_TOKEN to a token "
            "of the account that was given it"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"there is no {_site()}/{repo} that you may see: check the name, and for a private "
            "repository set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{_site()}/{repo} has no revision {revision}: see the tags on its page"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(_missing_file(repo, revision, what)) from None
    except errors.LocalEntryNotFoundError as error:
        raise UserError(_not_here(repo, revision, what, error.__cause__)) from None
    except errors.HfHubHTTPError as error:
        raise UserError(_refused(repo, error.response.status_code)) from None
    except httpx2.ProxyError:
        raise UserError(
            f"the proxy does not let {_site()} through: check HTTPS_PROXY and NO_PROXY"
        ) from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol):
        raise UserError(_unreachable()) from None
    except httpx2.HTTPError:
        raise UserError(_interrupted(repo, what)) from None
    except (OSError, RuntimeError) as error:
        raise UserError(_not_kept(repo, what, error)) from None
    except (ValueError, LookupError, TypeError, AssertionError):
        # A listing with `../` in a name, or an answer that is not the hub's JSON.
        raise UserError(_no_hub()) from None


def _not_here(repo: str, revision: str, what: str, cause: BaseException | None) -> str:
    """Why a file is neither in the cache nor to be had: offline, no connection, a bad answer."""
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(repo, cause.response.status_code)
    if isinstance(cause, errors.FileMetadataError):
        return _no_hub()
    if constants.HF_HUB_OFFLINE or isinstance(cause, errors.OfflineModeIsEnabled):
        return (
            f"{what} of {repo} at {revision} is not in the cache {constants.HF_HUB_CACHE} and "
            "HF_HUB_OFFLINE is set: run once without it"
        )
    return _unreachable()


def _unreachable() -> str:
    return f"cannot reach {_site()}: check the connection, and HF_ENDPOINT if you set it"


def _interrupted(repo: str, what: str) -> str:
    return (
        f"the download of {what} from {_site()}/{repo} was interrupted: "
        "run the same command again (finished files are kept)"
    )


def _refused(repo: str, status: int) -> str:
    """An HTTP status that none of the library's own exceptions stands for."""
    if status == 401:
        return f"{_site()} does not accept HF_TOKEN for {repo}: make a new token, or unset it"
    if status == 403:
        return f"{_site()} forbids access to {repo}: ask its owner, or set another HF_TOKEN"
    if status == 429:
        return f"{_site()} asks for fewer requests: wait some minutes and run the command again"
    if status >= 500:
        return f"{_site()} is failing (HTTP {status}) for {repo}: try again later"
    return f"{_site()} refused {repo} (HTTP {status}): check the name, the revision and HF_ENDPOINT"


def _no_hub() -> str:
    return f"{_site()} does not answer like a model hub: check HF_ENDPOINT"


def _not_kept(repo: str, what: str, error: OSError | RuntimeError) -> str:
    """Why a file that the hub was sending is not on this disk."""
    cache = constants.HF_HUB_CACHE
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left" in str(error):
        return f"no room for {what} of {repo} in {cache}: free some, or set HF_HOME to another disk"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"cannot write to the cache {cache}: change its permissions, or set HF_HOME elsewhere"
        )
    if code is None:
        # The body ended before its announced length, or the hub's own transfer library gave up.
        return _interrupted(repo, what)
    return f"cannot keep {what} of {repo} in {cache}: {os.strerror(code)}"
