"""How fast download.py is against a plain `requests.get` per file, and how much memory it takes.

    python -m bench.download [--posts 200] [--many 5000] [--latency 0.05] [--repeat 3]

Rate: the same files from the same stand-in, where a request and the opening of a connection each
take one round trip of `--latency`; once by download.py with its default options (its start and
its API calls, one a second, included), once one after the other. Memory: the peak of a run over
`--posts` posts and of one over `--many`, on a stand-in without latency.
"""

import argparse
import hashlib
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from arena.download.site import Site
from bench import measure
from demo.server import serve

import requests

FILE_SIZE = 50_000  # Bytes.


def make_site(folder: Path, count: int) -> None:
    """A site of `count` posts with files of random bytes, and no aliases or implications."""
    dice = random.Random(count)
    (folder / "files").mkdir(parents=True)
    posts = []
    for number in range(1, count + 1):
        data = dice.randbytes(FILE_SIZE)
        md5 = hashlib.md5(data).hexdigest()
        (folder / "files" / f"{md5}.jpg").write_bytes(data)
        posts.append(
            {
                "id": number,
                "created_at": "2023-10-22T00:00:00.000-04:00",
                "rating": "g",
                "tag_string": " ".join(f"tag_{n}" for n in range(40)),
                "md5": md5,
                "file_ext": "jpg",
                "file_size": len(data),
            }
        )
    (folder / "posts.json").write_text(json.dumps(posts))
    for name in ("tag_aliases", "tag_implications"):
        (folder / f"{name}.json").write_text("[]")


def by_script(url: str, count: int, data: Path) -> tuple[float, float]:
    """(seconds, peak MB) of download.py for `count` posts into an empty `data`."""
    (data / "metadata").mkdir(parents=True)
    for name in ("tag_aliases", "tag_implications"):
        (data / "metadata" / f"{name}000000000000.json").touch()
    more = ["--url", url, "--data", str(data), "--posts", str(count)]
    taken = measure.script("download.py", *more)
    if len(list((data / "originals").iterdir())) != count:
        raise SystemExit(f"download.py did not fetch {count} files")
    return taken.seconds, taken.peak / 2**20


def one_by_one(url: str, count: int, folder: Path) -> float:
    """Seconds for a plain `requests.get` per file of the first `count` posts."""
    folder.mkdir()
    headers = {"User-Agent": Site(url).agent}
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        params = {"limit": "200", "page": f"b{rows[-1]['id'] if rows else 6800000}"}
        rows += requests.get(f"{url}/posts.json", params=params, headers=headers, timeout=30).json()

    def fetch() -> None:
        for row in rows[:count]:
            answer = requests.get(row["file_url"], headers=headers, timeout=30)
            (folder / str(row["id"])).write_bytes(answer.content)

    return measure.seconds(fetch)


def main() -> None:
    """Measure and print."""
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("--posts", type=int, default=200)
    args.add_argument("--many", type=int, default=5000)
    args.add_argument("--latency", type=float, default=0.05, metavar="SECONDS")
    args.add_argument("--repeat", type=int, default=3)
    options = args.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_site(folder / "site", options.many)
        script, plain = [], []
        with serve(folder / "site", latency=options.latency) as server:
            for turn in range(options.repeat):
                took, _ = by_script(server.url, options.posts, folder / f"script{turn}")
                script.append(took)
                plain.append(one_by_one(server.url, options.posts, folder / f"plain{turn}"))
        fast, slow = statistics.median(script), statistics.median(plain)
        print(f"{options.posts} files, {1000 * options.latency:.0f} ms latency, median of", end=" ")
        print(f"{options.repeat}: download.py {options.posts / fast:.1f} files/s,", end=" ")
        print(f"requests.get {options.posts / slow:.1f} files/s, ratio {slow / fast:.1f}")
        with serve(folder / "site") as server:
            _, few = by_script(server.url, options.posts, folder / "few")
            _, many = by_script(server.url, options.many, folder / "many")
        print(f"peak memory: {few:.0f} MB for {options.posts} posts,", end=" ")
        print(f"{many:.0f} MB for {options.many}, {many - few:+.0f} MB")


if __name__ == "__main__":
    main()
