"""Files from the model hub, kept in huggingface_hub's own cache; each failure in one clear line.

`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` work as huggingface_hub documents them. No
message here quotes a request or the library's own text, so a token cannot end up on a screen.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from arena import hub_client
from arena.cli import UserError, warn
from arena.files import AbsentError, fresh, refuse_pointer
from arena.hub_client import Bar, Slow, XetError, patience, site

import httpx2
import huggingface_hub
from huggingface_hub import constants, errors


def fetch(repo: str, revision: str, filename: str) -> Path:
    """The local path of one file of `repo` at `revision`, downloaded when not cached.

    `repo` is a model's repository, org/name, or a data set's, datasets/org/name. Raises UserError,
    with its own line for each way this can fail; AbsentError where the hub is out of reach.
    """
    kind, name = _kind(repo)
    with explain_errors(repo, revision, filename):
        path = _patiently(
            lambda: huggingface_hub.hf_hub_download(
                name, filename, revision=revision, repo_type=kind, tqdm_class=Bar
            )
        )
    refuse_pointer(path)
    return path


def fetch_many(repo: str, revision: str, patterns: Sequence[str]) -> Path:
    """The local folder with the files of `repo` at `revision` that match the shell `patterns`.

    Raises UserError as `fetch` does, and for a pattern that no file of the repository matches.
    """
    what = "a file" if len(patterns) > 1 else patterns[0]
    with explain_errors(repo, revision, what):
        folder = _patiently(
            lambda: huggingface_hub.snapshot_download(
                repo, revision=revision, allow_patterns=list(patterns), tqdm_class=Bar
            )
        )
    held = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in held):
            raise UserError(_missing_file(repo, revision, pattern))
    sizes = _sizes(repo, folder.name)
    for name in held:
        path = folder / name
        if any(fnmatch(name, pattern) for pattern in patterns):
            refuse_pointer(path)
            if path.stat().st_size != sizes.get(name, path.stat().st_size):
                raise UserError(f"{path} is cut short: {fresh(path)}")
    return folder


def listing(repo: str, revision: str) -> tuple[str, list[str]]:
    """The commit that a revision of a repository is now, and the names of its files.

    Without a connection, of what the cache holds. `repo` and errors are as `fetch` has them.
    """
    kind, name = _kind(repo)
    with explain_errors(repo, revision, "the list of files"):
        if constants.HF_HUB_OFFLINE:
            folder = Path(
                huggingface_hub.snapshot_download(
                    name, revision=revision, repo_type=kind, local_files_only=True
                )
            )
            held = (path for path in folder.rglob("*") if path.is_file())
            return folder.name, sorted(path.relative_to(folder).as_posix() for path in held)
        _check_token()
        patience.begin()
        api = huggingface_hub.HfApi()
        about = api.model_info if kind == "model" else api.dataset_info
        found = about(name, revision=revision)
    return str(found.sha), sorted(each.rfilename for each in found.siblings or [])


def _kind(repo: str) -> tuple[str, str]:
    """What a repository holds, as the library calls it, and its name without that."""
    name = repo.removeprefix("datasets/")
    return "model" if name == repo else "dataset", name


def _sizes(repo: str, commit: str) -> dict[str, int]:
    """The sizes of a repository's files, as far as the cache has the hub's list of them."""
    try:
        listed = huggingface_hub.get_cached_repo_tree(repo, revision=commit)
    except errors.CachedRepoTreeNotFoundError:
        return {}
    return {file.path: file.size for file in listed}


def _patiently(download: Callable[[], str]) -> Path:
    """What `download` fetches while patience lasts, without Xet storage where that fails."""
    _check_token()
    patience.begin()
    try:
        return Path(download())
    except XetError as error:
        warn(
            f"the hub's Xet storage cannot be used ({error}): going on without it, as with "
            "HF_HUB_DISABLE_XET=1, which also saves the wait"
        )
        patience.begin()
        return Path(download())


def _check_token() -> None:
    """Refuse a token that no HTTP header can hold; the message does not show it."""
    if constants.HF_HUB_OFFLINE:
        return
    try:
        # As it was given: the library leaves out line ends in the middle without a word.
        token = os.environ.get("HF_TOKEN", "").strip() or huggingface_hub.get_token() or ""
        fits = token.isascii() and token.isprintable()
    except UnicodeDecodeError:
        fits = False
    if not fits:
        raise UserError(
            f"HF_TOKEN (or the file {constants.HF_TOKEN_PATH}) holds letters that no token has, or "
            "more than one line: copy the token anew from the hub's settings"
        )


def cached(repo: str, revision: str, filename: str) -> bool:
    """Whether `fetch` of the same arguments would find its file on this machine."""
    return cached_path(repo, revision, filename) is not None


def cached_path(repo: str, revision: str, filename: str) -> Path | None:
    """The file that `fetch` would find on this machine. Asks nothing of the hub."""
    try:
        found = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision)
    except errors.HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _missing_file(repo: str, revision: str, filename: str) -> str:
    return (
        f"{site()}/{repo} has no file {filename} at revision {revision}: "
        "check the file name and the revision"
    )


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
            f"{site()}/{repo} is gated: ask for access on its page, then set HF_TOKEN to a token "
            "of the account that was given it"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"there is no {site()}/{repo} that you may see: check the name, and for a private "
            "repository set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{site()}/{repo} has no revision {revision}: see the tags on its page"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(_missing_file(repo, revision, what)) from None
    except errors.LocalEntryNotFoundError as error:
        raise AbsentError(_not_here(repo, revision, what, error.__cause__)) from None
    except Slow:
        raise AbsentError(_slow(repo, what)) from None
    except errors.HfHubHTTPError as error:
        raise UserError(_refused(repo, error.response.status_code)) from None
    except httpx2.TooManyRedirects:
        raise UserError(f"{site()} redirects {repo} in circles: check HF_ENDPOINT") from None
    except httpx2.ProxyError:
        raise AbsentError(
            f"the proxy does not let {site()} through: check HTTPS_PROXY and NO_PROXY"
        ) from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol):
        raise AbsentError(_unreachable()) from None
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
    if isinstance(cause, Slow):
        return _slow(repo, what)
    if constants.HF_HUB_OFFLINE or isinstance(cause, errors.OfflineModeIsEnabled):
        return (
            f"{what} of {repo} at {revision} is not in the cache {constants.HF_HUB_CACHE} and "
            "HF_HUB_OFFLINE is set: run once without it"
        )
    return _unreachable()


def _unreachable() -> str:
    return f"cannot reach {site()}: check the connection, and HF_ENDPOINT if you set it"


def _slow(repo: str, what: str) -> str:
    return (
        f"{site()}, or the host it names for {what} of {repo}, has sent nothing of use for "
        f"{hub_client.SECONDS:.0f} seconds: check the connection, and HF_ENDPOINT if you set it, "
        "and run the same command again (finished files are kept)"
    )


def _interrupted(repo: str, what: str) -> str:
    return (
        f"the download of {what} from {site()}/{repo} was interrupted: "
        "run the same command again (finished files are kept)"
    )


def _refused(repo: str, status: int) -> str:
    """An HTTP status that none of the library's own exceptions stands for."""
    if status == 401:
        return f"{site()} does not accept HF_TOKEN for {repo}: make a new token, or unset it"
    if status == 403:
        return f"{site()} forbids access to {repo}: ask its owner, or set another HF_TOKEN"
    if status == 429:
        return f"{site()} asks for fewer requests: wait some minutes and run the command again"
    if status >= 500:
        return f"{site()} is failing (HTTP {status}) for {repo}: try again later"
    return f"{site()} refused {repo} (HTTP {status}): check the name, the revision and HF_ENDPOINT"


def _no_hub() -> str:
    return f"{site()} does not answer like a model hub: check HF_ENDPOINT"


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
