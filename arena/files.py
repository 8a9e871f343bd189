"""Files that survive a kill: written under a temporary name and renamed, one writer per folder."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from arena.cli import UserError, warn
from arena.data_folder import DataFolder

POINTER = b"version https://git-lfs"  # How Git LFS's stand-in for a file begins.
# What flock says where there are none: some network file systems, and those of other systems.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class AbsentError(UserError):
    """A file that is not on this machine and cannot be had now."""


def temporary(path: Path) -> Path:
    """Where `path` is written before it is renamed: one fixed name, so a rerun overwrites it."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def atomic(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that appears as `path`, whole, when the block ends without an exception.

    `sync` waits for the disk before the rename; without it a power cut (not a kill) may leave an
    empty file, which is right only where a later run notices.
    """
    unfinished = temporary(path)
    try:
        with unfinished.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # Not the temporary name, nor, of a full disk, none.
        raise


def check_name(path: Path) -> None:
    """Raise UserError for a path that torch and ONNX Runtime cannot be told: not in UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path} is not a name in UTF-8, so torch and ONNX Runtime cannot open what is in it:"
            " rename it"
        ) from None


def refuse_pointer(path: Path) -> None:
    """Raise UserError where Git LFS has left its pointer in place of a file."""
    with path.open("rb") as file:
        if file.read(len(POINTER)) != POINTER:
            return
    again = "; should it come again, the repository has no more" if path.is_symlink() else ""
    raise UserError(f"{path} is only a pointer of Git LFS to the file: {fresh(path)}{again}")


def fresh(path: Path) -> str:
    """How to come by a whole copy of a damaged file. The hub's cache keeps links to what it
    fetched, and fetches again when what a link leads to is gone."""
    if path.is_symlink():
        return f"to download it again, delete {path.resolve()} and run the same command again"
    return "put a whole copy of it there, from where the model's other files come from"


def shown_path(text: str) -> str:
    """A path for what is shared: of one that could tell where on a machine, or whose, only the last
    name. `runs/best` stays, `/home/me/best` and `../best` become `…/best`, and a home is `…`."""
    path = Path(text)
    if not (path.is_absolute() or text.startswith("~") or ".." in path.parts):
        return text
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path raises for a user without one.
    is_home = text.startswith("~") and len(path.parts) == 1
    return "…" if is_home or path.name in ("", "..", home.name) else f"…/{path.name}"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; a lone surrogate from outside becomes `?`."""
    with atomic(path) as file:
        file.write(text.encode("utf-8", "replace"))


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed run left in a folder only this script writes."""
    for name in names(folder):
        if name.startswith(".") and name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)


def names(folder: Path) -> Iterator[str]:
    """The names of what is in a folder, one by one, as there may be millions; none without it."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)


def check_folder(data: DataFolder) -> None:
    """Raise UserError where there is no such folder."""
    if not data.root.is_dir():
        raise UserError(f"{data} is not a folder: give an existing one with --data")


def check_kinds(data: DataFolder) -> None:
    """Raise UserError where a folder has the name of a file, or the other way round."""
    for path, fits, kind in (
        *((path, path.is_file, "file") for path in data.files),
        *((path, path.is_dir, "folder") for path in data.folders),
    ):
        # A pipe would be waited for without end.
        if path.exists() and not fits():
            raise UserError(f"{path} is not a {kind}: move it elsewhere")


@contextmanager
def lock(data: DataFolder, script: str) -> Iterator[None]:
    """Hold `data` for one run of `script`; a second run raises UserError naming the holder.

    The lock is the kernel's (flock): it goes with its process, however that ends.
    """
    check_folder(data)
    check_kinds(data)
    with data.lock(script).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                warn(
                    f"the file system of {data} has no locks ({error.strerror}): see to it yourself"
                    f" that no other {script}.py uses the folder"
                )
                yield
                return
            if not isinstance(error, BlockingIOError):
                error.filename = str(data.lock(script))
                raise
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise UserError(
                f"{data} is in use by {script}.py ({holder}): wait for it or stop it first"
            ) from None
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        try:
            file.truncate(0)
            os.write(file.fileno(), holder.encode())  # What is in a buffer is tried again at close.
        except OSError as error:
            error.filename = str(data.lock(script))  # A full disk names no file.
            raise
        yield
