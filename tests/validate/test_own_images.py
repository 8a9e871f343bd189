"""One's own images, from a folder with captions to the results."""

import json
from pathlib import Path

from arena.posts import OWN
from demo.tiny import make_image, make_model
from tests.helpers import call
from tests.validate.helpers import TAGS, ok, validate

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_three_commands(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    mine.mkdir()
    data.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        make_image(mine / f"{number}.webp", rng)
        tags = [tag for tag in TAGS if rng.random() < 0.4] or TAGS[:1]
        (mine / f"{number}.txt").write_text(", ".join(tag.replace("_", " ") for tag in tags))
    ok(call("download.py", "--from-folder", mine, "--data", data))
    ok(call("trainable.py", "--data", data, "--workers", 1))
    rows = "".join(f"{tag},{4 if tag == 'tag_3' else 0}\n" for tag in TAGS)
    (data / "tags.csv").write_text(f"name,category\n{rows}")
    model = make_model(data, "tiny", TAGS, card={"tags": "tags.csv", "last_post_id": 10**9})
    text = model.read_text().replace("last_post_id", "# ")
    (data / "unknown.toml").write_text(text)
    done = ok(validate(data, model, data / "unknown.toml", more=("--min-count", 1)))
    assert "trained" not in done.out + done.err
    found = json.loads((data / "metrics.json").read_text())
    assert found["posts"] == {"count": 40, "min_id": OWN + 1, "max_id": OWN + 40}
    assert [model["maybe_seen"] for model in found["models"]] == [0, 0]
    # The captions do not say that a tag is a character's; the model does.
    categories = dict(zip(found["tag_names"], found["tag_categories"], strict=True))
    assert categories == {tag: "character" if tag == "tag_3" else "general" for tag in TAGS}
    assert found["models"][0]["by_rating"] == {}
