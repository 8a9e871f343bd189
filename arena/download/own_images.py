"""A folder of one's own images with captions, laid out as if it had been downloaded.

Beside an image `name.png` lies its caption: `name.txt`, tags with commas between them, as trainers
and booru tools write them, or `name.json`; `name.png.txt` and `name.png.json` do as well. The
image gets a post of its own in posts.jsonl, known by the file's md5: the same image keeps its id
wherever it is moved.
"""

import errno
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from arena import files, jsonl, posts
from arena.cli import UserError, progress, say
from arena.data_folder import DataFolder
from arena.download.fetch import STILL_IMAGES
from arena.download.post_file import PostFile

Json = dict[str, Any]

ENDINGS = ("txt", "json")  # Of captions; of several the first counts.
MAX_CAPTION = 1_000_000  # Bytes.
# File systems that have no hard links, or none between two of them, or not of another's file.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)
EXAMPLES = 3  # Files that are named for a reason.


class CaptionError(ValueError):
    """Why a caption cannot be used."""


class Caption(NamedTuple):
    """The tags of an image, by category where that is known (else `None`), and its rating."""

    tags: dict[str | None, list[str]]
    rating: str | None

    def fields(self) -> Json:
        """What a post's line says of it, in the API's words."""
        every = sorted({tag for tags in self.tags.values() for tag in tags})
        named = {
            f"tag_string_{category}": " ".join(self.tags[category])
            for category in posts.CATEGORIES
            if category in self.tags
        }
        return {"tag_string": " ".join(every), "rating": self.rating, **named}


@dataclass
class Outcome:
    """What became of the images: how many of each kind, and which were left out for each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    spaced: int = 0  # Captions without a comma whose words were taken for tags.

    def leave_out(self, reason: str, name: str) -> None:
        """Note an image that is left out."""
        self.left_out.setdefault(reason, []).append(name)

    def say(self) -> None:
        """Say the counts, and what was left out with the first names."""
        kinds = ("new", "changed", "already there")
        say(", ".join(f"{kind} {self.counts[kind]}" for kind in kinds))
        for reason, found in self.left_out.items():
            more = ", …" if len(found) > EXAMPLES else ""
            say(f"left out {len(found)}: {reason} ({', '.join(found[:EXAMPLES])}{more})")
        if self.spaced:
            say(f"{self.spaced} captions have no comma: their words were taken for tags")


def take_folder(folder: Path, data: DataFolder, max_bytes: int) -> None:
    """Give each captioned still image in `folder`, and the folders in it, a post and an original.

    An original is a hard link to the image where that can be had, else a copy. metadata/ stays
    without aliases and implications until they are fetched. Raises UserError where the folder does
    not exist or has no image with a caption, and OSError where a file cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one with images and captions")
    if folder.resolve() in (data.root.resolve(), data.originals.resolve()):
        raise UserError(f"{folder} holds the arena's own files: give --data another folder")
    with files.lock(data, "download"):
        _take(folder, data, max_bytes)


def _take(folder: Path, data: DataFolder, max_bytes: int) -> None:
    make_metadata(data)
    data.originals.mkdir(exist_ok=True)
    files.sweep(data.originals)
    post_file, outcome = PostFile(data), Outcome()
    known = {post.get("md5"): post for post in post_file.read() if post["id"] > posts.OWN}
    last = max([posts.OWN, *(post["id"] for post in known.values())])
    edited = {_identity(data.original(post["id"])): post for post in known.values()}
    edited.pop(None, None)
    changed: dict[int, Json] = {}
    seen: set[str] = set()
    for image in progress(list(images(folder)), desc="images", unit="file"):
        name = str(image.relative_to(folder))
        try:
            if (size := image.stat().st_size) > max_bytes:
                raise CaptionError("too large (--max-file-size)")
            caption, spaced = caption_of(image)
        except CaptionError as error:
            outcome.leave_out(str(error), name)
            continue
        with image.open("rb") as file:
            md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if md5 in seen:
            outcome.leave_out("the same image as another one", name)
            continue
        seen.add(md5)
        outcome.spaced += spaced
        about = {"md5": md5, "file_ext": image.suffix[1:].lower(), **caption.fields()}
        # An original that is a link to the image was changed together with it.
        old = known.get(md5) or edited.get(_identity(image))
        if old is None:
            last += 1
            post_file.add([{"id": last, **about}])
            old = {"id": last, **about}
            outcome.counts["new"] += 1
        elif about != {key: value for key, value in old.items() if key != "id"}:
            changed[old["id"]] = {"id": old["id"], **about}
            outcome.counts["changed"] += 1
        else:
            outcome.counts["already there"] += 1
        if not (md5 == old.get("md5") and _size(data.original(old["id"])) == size):
            place(image, data.original(old["id"]))
    if changed:
        post_file.replace(changed)
    outcome.say()
    if not outcome.counts:
        raise UserError(
            f"{folder} has no image with a caption: beside name.png there must be a name.txt with"
            " its tags, and commas between them, or a name.json"
        )
    say(f"{data.posts}: {len(post_file.ids)} posts")


def images(folder: Path) -> Iterator[Path]:
    """The still images in a folder and the folders in it, by name; hidden ones are left out."""

    def stop(error: OSError) -> None:
        raise error

    for here, below, names in os.walk(folder, onerror=stop):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            ending = path.suffix[1:].lower()
            if ending in STILL_IMAGES and not name.startswith(".") and path.is_file():
                yield path


def caption_of(image: Path) -> tuple[Caption, bool]:
    """An image's caption, and whether its words were taken for tags as it has no comma.

    Raises CaptionError where there is none, or none that can be used.
    """
    for ending in ENDINGS:
        for path in (image.with_name(f"{image.name}.{ending}"), image.with_suffix(f".{ending}")):
            if path.is_file():
                return (_from_text if ending == "txt" else _from_json)(_text(path))
    raise CaptionError("no caption beside it")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_CAPTION + 1)
    if len(content) > MAX_CAPTION:
        raise CaptionError(f"its caption is longer than {MAX_CAPTION} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CaptionError("its caption is not in UTF-8") from None


def _from_text(text: str) -> tuple[Caption, bool]:
    parts = re.split(r"[,\n]", text.strip())
    spaced = len(parts) == 1 and len(text.split()) > 1
    return _caption({None: text.split() if spaced else parts}, None), spaced


def _from_json(text: str) -> tuple[Caption, bool]:
    """A caption from an object with `tags` (a list, a text, or either by category), or with
    `tag_string` as the API has it; `rating`, where it is one of the site's four."""
    try:
        about = jsonl.loads(text.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise CaptionError("its caption is not JSON") from None
    given = about.get("tags", about.get("tag_string")) if isinstance(about, dict) else None
    if not isinstance(given, dict):
        given = {None: given}
    if isinstance(about, dict):
        strings = {name: about.get(f"tag_string_{name}") for name in posts.CATEGORIES}
        given |= {name: found for name, found in strings.items() if isinstance(found, str)}
    found: dict[str | None, list[str]] = {}
    spaced = False
    for category, tags in given.items():
        if isinstance(tags, str):
            # The API's own text has spaces between tags.
            spaced |= "," not in tags and "tags" in about and len(tags.split()) > 1
            tags = tags.split(",") if "," in tags else tags.split()
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise CaptionError('its caption has no "tags": a list of texts')
        found[category] = tags
    return _caption(found, about.get("rating")), spaced


def _caption(given: dict[str | None, list[str]], rating: Any) -> Caption:
    """The caption of tags as they were written. Raises CaptionError where there is none."""
    tags: dict[str | None, list[str]] = {}
    for category, written in given.items():
        kept = {tag for text in written if (tag := tag_name(text))}
        tags[category if category in posts.CATEGORIES else None] = sorted(
            kept | set(tags.get(category if category in posts.CATEGORIES else None, ()))
        )
    if not any(tags.values()):
        raise CaptionError("no tag in its caption")
    letters = {name: letter for letter, name in posts.RATINGS.items()}
    if isinstance(rating, str):
        rating = letters.get(rating.lower(), rating.lower())
    return Caption(tags, rating if rating in posts.RATINGS else None)


def tag_name(text: str) -> str:
    r"""A tag as the site writes it, of one as people do: `Saber \(Fate\)` is `saber_(fate)`."""
    return "_".join(re.sub(r"\\([()\[\]{}])", r"\1", text).lower().split())


def place(image: Path, original: Path) -> None:
    """Make `original` the image: a hard link, or a copy where there are none."""
    if _identity(original) == _identity(image):
        return
    unfinished = files.temporary(original)
    unfinished.unlink(missing_ok=True)
    try:
        os.link(image.resolve(), unfinished)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        with image.open("rb") as source, files.atomic(original) as copy:
            shutil.copyfileobj(source, copy)
        return
    unfinished.replace(original)


def _size(path: Path) -> int | None:
    """A file's size in bytes, None where there is none."""
    return path.stat().st_size if path.is_file() else None


def _identity(path: Path) -> tuple[int, int] | None:
    """What says that two paths lead to one file; None where there is no file."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def make_metadata(data: DataFolder) -> None:
    """Leave metadata/ without aliases and implications, where there are none yet, and say so."""
    data.metadata.mkdir(exist_ok=True)
    missing = [
        path
        for name in ("tag_aliases", "tag_implications")
        if not (path := data.tag_rows(name)).exists()
    ]
    for path in missing:
        files.write_text(path, "")
    if missing:
        say(
            f"{data.metadata} has no aliases and implications: download.py --tags-only --data"
            f" {data} fetches Danbooru's"
        )
