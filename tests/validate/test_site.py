"""The site of the posts, for links, and thumbnails in the report."""

import base64
import io
import json
import re
from pathlib import Path

from arena.data_folder import DataFolder
from demo.tiny import make_data, make_model
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, validate

import pytest
from PIL import Image


def folder(path: Path) -> Path:
    """A data folder with one model, whose card it gives."""
    make_data(path, 12)
    return make_model(path, "a", TAGS)


@pytest.mark.parametrize(
    ("held", "site"),
    [
        (None, "https://danbooru.donmai.us"),
        ("https://safebooru.donmai.us/\n", "https://safebooru.donmai.us"),
        ("http://127.0.0.1:8000\n", None),
        ("http://localhost:80/site", None),
    ],
)
def test_links_lead_to_the_site_of_the_posts(
    tmp_path: Path, held: str | None, site: str | None
) -> None:
    card, data = folder(tmp_path), DataFolder(tmp_path)
    if held:
        data.site.write_text(held)
    ok(validate(tmp_path, card))
    assert json.loads(data.metrics.read_text())["site"] == site


@pytest.mark.parametrize(
    "held",
    ["", "javascript:alert(1)", "https://", "https://a/?b", "https://u:p@a", "ftp://a", "a\n\xff"],
)
def test_a_site_that_is_no_address_is_refused(tmp_path: Path, held: str) -> None:
    card, data = folder(tmp_path), DataFolder(tmp_path)
    data.site.write_bytes(held.encode("latin-1"))
    refused(validate(tmp_path, card), f"{data.site} holds no address of a site", "delete the file")


def test_thumbnails_are_small_copies_of_the_posts_that_the_report_shows(tmp_path: Path) -> None:
    card, data = folder(tmp_path), DataFolder(tmp_path)
    ended = ok(validate(tmp_path, card, more=(*QUICK, "--thumbnails")))
    (text,) = re.findall(r'id="thumbnails">([^<]*)</script>', data.report.read_text())
    images = json.loads(text)
    results = json.loads(data.metrics.read_text())
    (model,) = results["models"]
    posts = {str(p) for side in model["examples"].values() for tag in side for p, _ in tag}
    posts |= {str(each["post"]) for each in results["disagreements"]}
    assert set(images) == posts
    assert f"{data.report} holds {len(posts)} thumbnails, " in ended.out
    for post, image in images.items():
        small = Image.open(io.BytesIO(base64.b64decode(image)))
        wide, high = Image.open(data.resized_image(int(post))).size
        assert max(small.size) <= 96
        assert small.width * high == pytest.approx(small.height * wide, abs=max(wide, high))
    ok(validate(tmp_path, card))
    assert 'id="thumbnails">{}</script>' in data.report.read_text()
