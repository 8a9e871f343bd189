"""Tags files in every published form, and the thresholds in them."""

import json
import math
from pathlib import Path
from typing import Any

from arena.cli import UserError
from models import tags
from tests.helpers import ROOT

import pytest

FORMS = ROOT / "tests" / "real" / "forms"
NAMES = ["1girl", "solo", "hatsune_miku", "rating:general", "2020"]
CATEGORIES = ["general", "general", "character", "rating", "year"]


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_published_forms() -> None:
    found = tags.read(FORMS / "animetimm.csv")
    assert found.names[:3] == ["1girl", "solo", "long_hair"]
    assert '''don't_say_"lazy"''' in found.names
    assert found.categories == [*["general"] * 5, "character", "rating"]
    assert tags.thresholds(found, "best_threshold", FORMS / "animetimm.csv")[0] == 0.45
    found = tags.read(FORMS / "pixai09.csv")
    assert found.names[-1] == "hatsune_miku" and found.columns["ips"][-1] == '["vocaloid"]'
    found = tags.read(FORMS / "oppai.csv")
    assert found.categories == ["general", "general", "general", "rating"]
    found = tags.read(FORMS / "pixai10_tags.json")
    assert list(zip(found.names, found.categories, strict=True)) == [
        ("1girl", "general"),
        ("hat", "general"),
        ("some_artist", "style"),
        ("rating:g", "rating"),
    ]
    found = tags.read(FORMS / "tag_mapping.json")
    assert found.names == ["1girl", "rating:general", "hatsune_miku"]
    assert found.categories == ["general", "rating", "character"]
    found = tags.read(FORMS / "deepdanbooru_tags.txt")
    assert found.categories == ["general"] * 3 + ["rating"] * 2


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_indices_with_categories(tmp_path: Path, nested: bool, as_list: bool) -> None:
    indices = NAMES if as_list else {str(n): name for n, name in enumerate(NAMES)}
    found: Any = {
        "idx_to_tag": indices,
        "tag_to_idx": {name: n for n, name in enumerate(NAMES)},
        "tag_to_category": dict(zip(NAMES, CATEGORIES, strict=True)),
    }
    if nested:
        found = {"dataset_info": {"tag_mapping": found}, "model_info": {}}
    read = tags.read(written(tmp_path / "metadata.json", found))
    assert (read.names, read.categories) == (NAMES, CATEGORIES)


def test_a_csv_without_categories_is_general(tmp_path: Path) -> None:
    read = tags.read(written(tmp_path / "tags.csv", "name,count\n1girl,5\nsolo,4\n"))
    assert read.categories == ["general"] * 2 and read.columns == {"count": ["5", "4"]}


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[" * 100_000,
        {},
        [],
        3,
        None,
        {"0": {"tag": "a", "category": "general"}, "2": {"tag": "b", "category": "general"}},
        {"0": {"tag": "a"}},
        {"0": {"tag": 3, "category": "general"}},
        {"idx_to_tag": {"0": "a"}, "tag_to_category": {}},
        {"idx_to_tag": {"0": "a"}},
        {"dataset_info": {}},
        {"categories": [{"name": "general", "offset": 1, "count": 1, "tags": ["a"]}]},
        {"categories": [{"name": "general", "offset": 0, "count": 2, "tags": ["a"]}]},
        {"categories": {"general": ["a"]}},
        {"0": {"tag": "a", "category": "generall"}},
    ],
)
def test_json_of_another_form_is_one_line(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path / "tags.json", value)
    with pytest.raises(UserError) as error:
        tags.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["1.5", "-0.1", "x", "nan", "inf"])
def test_a_threshold_that_is_none_names_its_tag(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "tags.csv", f"name,category,best\na,0,0.3\nodd,0,{text}\nr,9,\n")
    with pytest.raises(UserError) as error:
        tags.thresholds(tags.read(path), "best", path)
    assert "odd" in str(error.value)


def test_a_rating_needs_no_threshold(tmp_path: Path) -> None:
    path = written(tmp_path / "tags.csv", "name,category,best\na,0,0.3\nr,9,\n")
    first, second = tags.thresholds(tags.read(path), "best", path)
    assert first == 0.3 and math.isnan(second)
    with pytest.raises(UserError, match=r"no column 'worst'.*best"):
        tags.thresholds(tags.read(path), "worst", path)
