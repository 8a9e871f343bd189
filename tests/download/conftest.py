"""What the tests of download.py share: two sites, a data folder, and what a good run leaves."""

from pathlib import Path

from demo.server import serve
from tests.download.helpers import Json, download, make_site, originals, saved_posts

import pytest


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """260 posts; no test may change them."""
    folder = tmp_path_factory.mktemp("site")
    make_site(folder)
    return folder


@pytest.fixture(scope="session")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 posts; no test may change them."""
    folder = tmp_path_factory.mktemp("small_site")
    make_site(folder, 12)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def undisturbed(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[int, Json], dict[str, str]]:
    """The posts and the MD5 of the originals after a run in which nothing failed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with serve(site) as server:
        download(folder, server.url)
    return saved_posts(folder), originals(folder)
