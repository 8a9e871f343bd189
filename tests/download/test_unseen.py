"""Posts that no model may have been trained on, and the site's newest posts."""

import datetime
import re
import shutil
from pathlib import Path

from arena.download import unseen
from arena.seen import Training
from demo.server import serve
from demo.tiny import CARD, IMAGE, toml
from models import card
from tests.download.helpers import (
    asked,
    download,
    expected,
    make_site,
    originals,
    saved_posts,
    site_posts,
    write_posts,
)
from tests.helpers import call

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

ENDS = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda ends: (min(ends), max(ends)))
MODELS = st.lists(st.builds(Training, st.integers(0, 5000), st.none() | ENDS), max_size=3)


@pytest.fixture(scope="module")
def wide_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The posts 1001 to 3300; no test may change them."""
    folder = tmp_path_factory.mktemp("wide_site")
    make_site(folder, 2300, size=50)
    return folder


def model(folder: Path, name: str, **keys: object) -> Path:
    """A card with these keys; None takes one away."""
    path = folder / f"{name}.toml"
    fields = {key: value for key, value in {**CARD, **keys}.items() if value is not None}
    path.write_text(toml(fields, IMAGE))
    return path


@given(MODELS, st.integers(1, 7000))
def test_the_next_unseen_post_is_found(models: list[Training], below: int) -> None:
    ids = np.arange(1, 7001)
    kept = ids[~np.any([ids < 0, *(each.may_have_seen(ids) for each in models)], axis=0)]
    lowest, there = unseen.lowest(models), unseen.next_below(models, below)
    if (kept < below).any():
        assert lowest <= kept[0] and there == kept[kept < below].max() + 1
    else:
        assert there <= max(lowest, kept[0])
    one_by_one = [not any(each.may_have_seen(int(post_id)) for each in models) for post_id in ids]
    assert ids[one_by_one].tolist() == kept.tolist()


def test_models_that_leave_nothing_below_an_id() -> None:
    first, second = Training(7_000_000, (900, 999)), Training(5_000_000, (0, 99))
    assert unseen.lowest([first, second]) == 5_000_001
    assert unseen.next_below([first, second], 6_000_950) == 6_000_950
    assert unseen.next_below([first, second], 6_000_900) == 6_000_000
    assert unseen.next_below([first, second], 5_000_900) <= 5_000_001
    assert unseen.lowest([first, Training(2**53)]) == 2**53 + 1
    assert unseen.lowest([first, first]) == unseen.lowest([]) == 1


def test_only_pages_with_posts_that_were_held_out(
    wide_site: Path, data: Path, tmp_path: Path
) -> None:
    path = model(tmp_path, "a", last_post_id=9000, held_out=[900, 999])
    more = ("--unseen-by", path)
    wanted = [*range(1900, 2000), *range(2900, 3000)]
    first = "/posts.json?limit=1&page=b2000000000"
    with serve(wide_site) as server:
        download(data, server.url, *more, "--posts", 30)
        assert sorted(saved_posts(data)) == wanted[-30:]
        server.requests.clear()
        done = download(data, server.url, *more)
        pages = [f"/posts.json?limit=200&page=b{below}" for below in (2970, 2000, 1000)]
        assert asked(server, "/posts") == [first, *pages]
        assert sorted(saved_posts(data)) == wanted
        assert originals(data) == expected([p for p in site_posts(wide_site) if p["id"] in wanted])
        assert "the site has no more posts below ID 3301: 200 of 65536 found" in done.out
        assert re.search(r"left out as perhaps seen by a model: \d+\n", done.out)
        server.requests.clear()
        download(data, server.url, *more, "--start-id", 3200, "--posts", 200)
        assert server.requests == []


def test_the_walk_ends_where_nothing_is_unseen(wide_site: Path, data: Path, tmp_path: Path) -> None:
    held_out = model(tmp_path, "a", last_post_id=3290, held_out=[900, 999])
    none = model(tmp_path, "b", last_post_id=2949)
    names = f"{held_out}, {none}"
    with serve(wide_site) as server:
        done = download(data, server.url, "--unseen-by", names)
        assert sorted(saved_posts(data)) == [*range(2950, 3000), *range(3291, 3301)]
        seen = "every post below ID 2950 may have been seen by a model"
        assert f"{seen}: 60 of 65536 found" in done.out
        assert len(asked(server, "/posts.json?limit=200&page=")) == 2
        server.requests.clear()
        done = download(data, server.url, "--unseen-by", names, "--start-id", 2950)
        assert f"{seen} (give a higher --start-id, or newest): 0 of 65536 found" in done.out
        assert server.requests == []


def test_families_of_seen_posts_are_left_out(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 60, size=20)  # 1001 to 1060.
    parent_of = {
        1058: 1057,  # Nobody of them was seen.
        1056: 1010,  # Its parent was seen,
        1055: 1056,  # so its child is out, too.
        1054: 1090,  # Its parent is not on the site; a sibling was seen.
        1012: 1090,
        1011: 1053,  # The seen child of another.
    }
    for post in posts:
        post["parent_id"] = parent_of.get(post["id"])
    write_posts(tmp_path / "site", posts)
    path = model(tmp_path, "a", last_post_id=1050)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--start-id", 1061, "--unseen-by", path)
    assert sorted(saved_posts(data)) == [1051, 1052, *range(1057, 1061)]
    assert "left out as perhaps seen by a model: 54" in done.out


def test_files_of_posts_with_a_seen_parent_are_not_fetched(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 9, size=20)  # 1001 to 1009.
    for post in posts:
        post["parent_id"] = {1008: 1002, 1007: 1006}.get(post["id"])
    write_posts(tmp_path / "site", posts)
    path = model(tmp_path, "a", last_post_id=1004)
    with serve(tmp_path / "site") as server:
        download(data, server.url, "--start-id", 1010)
        shutil.rmtree(data / "originals")
        download(data, server.url, "--start-id", 1010, "--unseen-by", path)
    wanted = [post for post in posts if post["id"] in (1005, 1006, 1007, 1009)]
    assert originals(data) == expected(wanted)


def test_other_models_walk_anew_and_the_same_do_not(
    wide_site: Path, data: Path, tmp_path: Path
) -> None:
    path = model(tmp_path, "a", last_post_id=9000, held_out=[900, 999])
    other = model(tmp_path, "b", last_post_id=3100)
    start = ("--start-id", 3201)
    with serve(wide_site) as server:
        download(data, server.url, *start, "--unseen-by", path, "--posts", 150)
        assert len(saved_posts(data)) == 150
        download(data, server.url, *start, "--unseen-by", other)
        assert len(saved_posts(data)) == 250
        download(data, server.url, *start, "--posts", 400)
        assert len(saved_posts(data)) == 400 + 50  # 3200 down to 2801, and 50 of 1900 to 1999.
        server.requests.clear()
        again = model(tmp_path, "again", last_post_id=9000, held_out=[900, 999])
        for more in (["--posts", 400], ["--unseen-by", f"{again},{path}", "--posts", 150]):
            download(data, server.url, *start, *more)
        assert server.requests == []
        # A line without models and shard, as of version 1, is one of a run without.
        lines = (data / "walked.jsonl").read_text()
        old = lines.replace(',"unseen_by":[],"shard":[0,1]', "")
        assert old != lines
        (data / "walked.jsonl").write_text(old)
        download(data, server.url, *start, "--posts", 400)
        assert server.requests == []


def test_files_of_seen_posts_are_not_fetched(wide_site: Path, data: Path, tmp_path: Path) -> None:
    path = model(tmp_path, "a", last_post_id=1380)
    with serve(wide_site) as server:
        download(data, server.url, "--start-id", 1400, "--posts", 50)
        shutil.rmtree(data / "originals")
        download(data, server.url, "--start-id", 1400, "--unseen-by", path)
    wanted = [post for post in site_posts(wide_site) if 1380 < post["id"] < 1400]
    assert originals(data) == expected(wanted) and len(saved_posts(data)) == 50


def test_a_model_of_which_nothing_is_known(data: Path, tmp_path: Path) -> None:
    path = model(tmp_path, "a", last_post_id=None)
    ended = download(data, "http://127.0.0.1:9", "--unseen-by", f"joytag,{path}", code=2)
    assert f"{path}: without the key 'last_post_id' it is not known" in ended.err
    assert "leave out a, or give the card the key" in ended.err
    assert list(data.iterdir()) == []
    ended = download(data, "http://127.0.0.1:9", "--unseen-by", "joytagg", code=2)
    assert "did you mean joytag?" in ended.err
    (tmp_path / "ids.txt").write_text("7\n")
    more = ("--unseen-by", "joytag", "--post-ids", tmp_path / "ids.txt")
    assert "give either" in download(data, "http://127.0.0.1:9", *more, code=2).err


def test_the_newest_posts(site: Path, data: Path) -> None:
    with serve(site) as server:
        done = download(data, server.url, "--start-id", "newest", "--posts", 5)
        assert len(asked(server, "/posts.json?limit=1&")) == 1
        assert "walking down from ID 1261" in done.out
        assert sorted(saved_posts(data)) == list(range(1256, 1261))


def test_the_newest_posts_that_are_old_enough(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 3000, size=20)
    now = datetime.datetime.now(datetime.UTC)
    for post in posts[900:]:
        post["created_at"] = (now - datetime.timedelta(days=10)).isoformat()
    write_posts(tmp_path / "site", posts)
    with serve(tmp_path / "site") as server:
        download(data, server.url, "--start-id", "newest", "--posts", 100)
        assert sorted(saved_posts(data)) == list(range(1801, 1901))
        assert len(asked(server, "/posts.json?limit=1&")) <= 7
        assert len(asked(server, "/posts.json?limit=200&")) <= 2
        download(data, server.url, "--start-id", "newest", "--posts", 10, "--min-age-days", 0)
        assert set(saved_posts(data)) >= set(range(3991, 4001))


def test_a_site_without_posts(tmp_path: Path, data: Path) -> None:
    make_site(tmp_path / "site", 0)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--start-id", "newest")
    assert "the site has no more posts below ID 1: 0 of 65536 found" in done.out


@pytest.mark.parametrize("script", ["download.py", "validate.py"])
def test_the_models_of_the_help_are_there(script: str) -> None:
    described = call(script, "--help").out.split("options:")[0].partition("\n\n")[2]
    lists = re.findall(r"--(?:models|unseen-by) (\S+)", described)
    assert lists
    for name in {name for names in lists for name in names.split(",")}:
        assert card.card(name).last_post_id
