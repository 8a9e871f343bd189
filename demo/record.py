"""A post's record as the API gives it: the addresses of its files, and what of it is hidden."""

import hashlib
from typing import Any

Json = dict[str, Any]

CDN = "https://cdn.donmai.us"  # The real site's file host, for which a stand-in puts its own.
SAMPLE_WIDTH = 850
PREVIEWS = (("180x180", "jpg"), ("360x360", "jpg"), ("720x720", "webp"))
HIDDEN_FIELDS = ("md5", "file_url", "large_file_url", "preview_file_url")
HIDDEN_ASSET_FIELDS = ("md5", "file_key", "variants")


def file_url(kind: str, md5: str, extension: str) -> str:
    """Where the file host has a file: `kind` is `original`, `sample` or `180x180`."""
    name = f"sample-{md5}" if kind == "sample" else md5
    return f"{CDN}/{kind}/{md5[:2]}/{md5[2:4]}/{name}.{extension}"


def file_urls(md5: str, extension: str, *, has_large: bool = False) -> Json:
    """The three fields of a post that lead to its file and smaller ones."""
    original = file_url("original", md5, extension)
    return {
        "file_url": original,
        "large_file_url": file_url("sample", md5, "jpg") if has_large else original,
        "preview_file_url": file_url("180x180", md5, "jpg"),
    }


def media_asset(post: Json) -> Json:
    """A post's field of that name, with a file of each size."""
    md5, extension = post["md5"], post["file_ext"]
    width, height = post["image_width"], post["image_height"]

    def variant(kind: str, extension: str, scale: float) -> Json:
        sides = {"width": round(width * scale), "height": round(height * scale)}
        url = file_url(kind, md5, extension)
        return {"type": kind, "url": url, **sides, "file_ext": extension}

    variants = [
        variant(kind, preview, int(kind.split("x")[0]) / max(width, height))
        for kind, preview in PREVIEWS
    ]
    if post["has_large"]:
        variants.append(variant("sample", "jpg", SAMPLE_WIDTH / width))
    return {
        "id": post["id"] + 1_000_000,
        "created_at": post["created_at"],
        "updated_at": post["updated_at"],
        "md5": md5,
        "file_ext": extension,
        "file_size": post["file_size"],
        "image_width": width,
        "image_height": height,
        "duration": 1.5 if extension in ("mp4", "zip") else None,
        "status": "active",
        "file_key": md5[:9],
        "is_public": True,
        "pixel_hash": hashlib.md5(md5.encode(), usedforsecurity=False).hexdigest(),
        "variants": [*variants, variant("original", extension, 1.0)],
    }


def hidden(post: Json) -> Json:
    """The post as the site shows it to those who may not see its file."""
    left = {key: value for key, value in post.items() if key not in HIDDEN_FIELDS}
    if "media_asset" in post:
        asset = post["media_asset"].items()
        left["media_asset"] = {key: v for key, v in asset if key not in HIDDEN_ASSET_FIELDS}
    return left
