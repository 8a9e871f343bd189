"""demo/drawings.py: the Site folder is complete, deterministic, and says what its files are."""

import hashlib
import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from demo import drawings, record
from tests.helpers import ROOT

import numpy as np
import pytest
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow

COUNT = 100  # Enough for every kind of unusable post.
RECORDED = json.loads((ROOT / "tests" / "real" / "danbooru" / "posts.json").read_text())
SHOWN = next(post for post in RECORDED if "md5" in post)
HIDDEN = next(post for post in RECORDED if "md5" not in post)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("site")
    drawings.make_site(folder, COUNT, seed=1)
    return folder


def read(site: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((site / name).read_text())
    return rows


def content(site: Path, post: dict[str, Any]) -> bytes:
    return (site / "files" / f"{post['md5']}.{post['file_ext']}").read_bytes()


def visible(site: Path) -> list[dict[str, Any]]:
    return [post for post in read(site, "posts.json") if "md5" in post]


def transparent(image: Image.Image) -> bool:
    return int(np.asarray(image.convert("RGBA"))[..., 3].min()) < 255


def kind(raw: bytes, extension: str) -> str:
    """What a file is, by its content."""
    if extension in ("zip", "mp4"):
        return extension
    with Image.open(io.BytesIO(raw)) as image:
        if getattr(image, "n_frames", 1) > 1:
            return f"animated {extension}"
        if extension == "gif":
            return "gif"
        try:
            image.load()
        except OSError:
            return "truncated"
        if transparent(image):
            return f"transparent {extension} {image.mode}"
    return "ok"


@pytest.mark.slow
def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def digests(name: str, seed: int) -> dict[str, str]:
        drawings.make_site(tmp_path / name, 20, seed)
        return {
            str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }

    first = digests("a", 3)
    assert first == digests("b", 3)
    other = digests("c", 4)
    assert first["posts.json"] != other["posts.json"]
    assert first["tag_aliases.json"] == other["tag_aliases.json"]


@pytest.mark.slow
def test_posts_have_the_api_fields_newest_first(site: Path) -> None:
    posts = read(site, "posts.json")
    assert len(posts) == COUNT
    ids = [post["id"] for post in posts]
    assert ids == sorted(set(ids), reverse=True)
    assert max(ids) < 6_800_000
    assert ids[0] - ids[-1] > 2 * COUNT
    for post in posts:
        record = SHOWN if "md5" in post else HIDDEN
        assert post.keys() == record.keys()
        assert post["media_asset"].keys() == record["media_asset"].keys()
        assert datetime.fromisoformat(post["created_at"]).year == 2023
        assert re.fullmatch(r"[\d-]+T[\d:]+\.\d{3}[+-]\d\d:\d\d", post["created_at"])
        assert post["rating"] in "gsqe"
        assert post["score"] == post["up_score"] + post["down_score"]


@pytest.mark.parametrize("post", RECORDED, ids=lambda post: str(post["id"]))
def test_addresses_and_sizes_are_as_the_site_makes_them(post: dict[str, Any]) -> None:
    if "md5" not in post:
        return
    urls = record.file_urls(post["md5"], post["file_ext"], has_large=post["has_large"])
    assert urls.items() <= post.items()
    made = record.media_asset(post)["variants"]
    wanted = post["media_asset"]["variants"]
    assert [variant["url"] for variant in made] == [variant["url"] for variant in wanted]
    for one, other in zip(made, wanted, strict=True):
        assert abs(one["width"] - other["width"]) <= 1
        assert abs(one["height"] - other["height"]) <= 1
    assert record.hidden(post).keys() == HIDDEN.keys()


def test_tag_strings_agree(site: Path) -> None:
    for post in read(site, "posts.json"):
        names = ("general", "artist", "copyright", "character", "meta")
        parts = {name: post[f"tag_string_{name}"].split() for name in names}
        tags = post["tag_string"].split()
        assert sorted(tag for part in parts.values() for tag in part) == sorted(set(tags))
        assert post["tag_count"] == len(tags)
        assert all(post[f"tag_count_{name}"] == len(part) for name, part in parts.items())


def test_files_are_what_the_posts_say(site: Path) -> None:
    for post in visible(site):
        raw = content(site, post)
        assert len(raw) == post["file_size"]
        assert hashlib.md5(raw, usedforsecurity=False).hexdigest() == post["md5"]
        if kind(raw, post["file_ext"]) == "ok":
            with Image.open(io.BytesIO(raw)) as image:
                formats = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
                assert formats[str(image.format)] == post["file_ext"]
                upright = ImageOps.exif_transpose(image)
                assert upright.size == (post["image_width"], post["image_height"])
    held = {path.stem for path in (site / "files").iterdir()}
    assert held == {post["md5"] for post in visible(site)}


def test_every_kind_of_unusable_post_is_there(site: Path) -> None:
    hidden = [post for post in read(site, "posts.json") if "md5" not in post]
    kinds = {kind(content(site, post), post["file_ext"]) for post in visible(site)}
    assert hidden
    assert kinds == {
        "animated gif",
        "animated png",
        "animated webp",
        "gif",
        "mp4",
        "ok",
        "transparent png P",
        "transparent png RGB",
        "transparent png RGBA",
        "transparent webp RGBA",
        "truncated",
        "zip",
    }


def test_usable_formats_are_mixed(site: Path) -> None:
    found = set()
    for post in visible(site):
        raw = content(site, post)
        if kind(raw, post["file_ext"]) == "ok":
            with Image.open(io.BytesIO(raw)) as image:
                found.add((post["file_ext"], image.mode))
                if image.getexif().get(0x0112, 1) != 1:
                    found.add(("jpg", "rotated"))
                if raw.startswith(b"\x89PNG") and raw[24] == 16:
                    found.add(("png", "16-bit"))
    assert found >= {
        ("jpg", "RGB"),
        ("jpg", "L"),
        ("jpg", "CMYK"),
        ("jpg", "rotated"),
        ("png", "RGB"),
        ("png", "P"),
        ("png", "16-bit"),
        ("webp", "RGB"),
    }


def test_deep_png_holds_the_drawing() -> None:
    gradient = np.arange(256, dtype=np.uint8).reshape(16, 16)
    color = np.stack([gradient, gradient.T, 255 - gradient], axis=-1)
    with Image.open(io.BytesIO(drawings._deep_png(Image.fromarray(color)))) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), color)
    with Image.open(io.BytesIO(drawings._deep_png(Image.fromarray(gradient)))) as image:
        assert np.array_equal(np.asarray(image), gradient.astype(np.int64) * 257)


def test_aliases_and_implications_matter(site: Path) -> None:
    aliases, implications = read(site, "tag_aliases.json"), read(site, "tag_implications.json")
    for rows in (aliases, implications):
        assert {"id", "antecedent_name", "consequent_name", "status"} <= rows[0].keys()
        assert [row["id"] for row in rows] == sorted({row["id"] for row in rows}, reverse=True)
        assert {row["status"] for row in rows} > {"active"}
    active = {
        row["antecedent_name"]: row["consequent_name"]
        for row in aliases
        if row["status"] == "active"
    }
    assert any(new in active for new in active.values()), "no alias chain"

    posts = read(site, "posts.json")
    tagged = [set(post["tag_string"].split()) for post in posts]
    assert any(tags & active.keys() for tags in tagged)
    assert any(
        row["antecedent_name"] in tags and row["consequent_name"] not in tags
        for row in implications
        if row["status"] == "active"
        for tags in tagged
    )


@pytest.mark.slow
def test_drawings_have_true_tags() -> None:
    """Tags that can be checked on the pixels."""
    checked: set[str] = set()
    for index in range(300):
        rng = np.random.default_rng([8, index])
        image, tags = drawings.draw(rng, (240, 180))
        pixels = np.asarray(image).astype(int)
        assert image.mode == "RGB" and image.size == (240, 180)
        grey = (pixels.max(axis=2) - pixels.min(axis=2)).max() == 0
        if "greyscale" in tags:
            assert grey and "monochrome" in tags
        if "white_border" in tags and "monochrome" not in tags:
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert (edge == 255).all()
        if "letterboxed" in tags and "monochrome" not in tags:
            assert (pixels[:15] == 0).all() and (pixels[-15:] == 0).all()
        if "white_background" in tags and not tags & {"border", "letterboxed", "pillarboxed"}:
            assert (pixels > 230).all(axis=2).mean() > 0.2
        assert tags == drawings.with_implied(set(tags))
        checked |= tags
    assert {"greyscale", "white_border", "letterboxed", "white_background"} <= checked
