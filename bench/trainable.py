"""trainable.py against the plain way: full decode, Pillow bicubic, WebP at its default method.

    python -m bench.trainable                 images a second, bytes, quality; then a rerun's time
    python -m bench.trainable --methods       what each of libwebp's methods costs and gives

Seven JPEGs to three PNGs of 1.5 to 9 megapixels, drawn by code: gradients, edges, lines, noise.
Both ways run in the same number of worker processes, in turn; the clock starts when the workers
have done one picture each. Quality is PSNR against the full-resolution reference, a bicubic
resize of the full decode in floating point, before WebP.
"""

import argparse
import io
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from arena.data_folder import DataFolder
from arena.trainable import process_pool
from arena.trainable.judge import confine, decode, fit, judge, shrink, to_rgb
from bench import measure

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

MAX_SIZE = 1024
QUALITY = 80


def picture(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Soft gradients, filled shapes with outlines, thin curves, and noise of varying strength."""
    corners = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image = corners.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = random.uniform(0, width), random.uniform(0, height)
        across = random.lognormal(np.log(min(width, height) / 15), 0.7)
        down = across * random.uniform(0.3, 1)
        box = (x - across, y - down, x + across, y + down)
        colour = tuple(random.integers(0, 256, 3).tolist())
        if random.random() < 0.5:
            draw.ellipse(box, fill=colour, outline=(20, 20, 30), width=max(2, width // 500))
        else:
            draw.rectangle(box, fill=colour)
    for _ in range(120):
        steps = random.normal(0, (width / 12, height / 12), (5, 2))
        steps[0] = random.uniform(0, (width, height))
        points = [(float(x), float(y)) for x, y in steps.cumsum(axis=0)]
        colour = tuple(random.integers(0, 120, 3).tolist())
        draw.line(points, fill=colour, width=int(random.integers(1, max(3, width // 300))))
    image = image.filter(ImageFilter.GaussianBlur(0.8))
    strength = Image.fromarray(random.uniform(0, 6, (8, 8)).astype(np.float32))
    noise = random.standard_normal((height, width), dtype=np.float32)
    noise *= np.asarray(strength.resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.asarray(image, dtype=np.float32) + noise[..., None]
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def pictures(count: int, seed: int) -> list[bytes]:
    """Encoded pictures of 1.5 to 9 megapixels: of every ten, seven JPEGs and three PNGs."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pixels = np.exp(random.uniform(np.log(1.5e6), np.log(9e6)))
        aspect = np.exp(random.uniform(-0.5, 0.5))
        image = picture(random, round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5))
        buffer = io.BytesIO()
        if number % 10 in (2, 5, 8):
            image.save(buffer, "PNG")
        else:
            image.save(buffer, "JPEG", quality=int(random.integers(85, 97)))
        made.append(buffer.getvalue())
    return made


def plain(data: bytes) -> bytes:
    """The plain way: everything at full size, with Pillow, at its defaults."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = image.resize(fit(image.size, MAX_SIZE), Image.Resampling.BICUBIC)
    return webp(image, method=4)


def ours(data: bytes) -> bytes:
    """What trainable.py does with a file."""
    return judge(data, MAX_SIZE, QUALITY).webp


def decoding(data: bytes) -> bytes:
    """The floor: the decoding alone, that no way of doing the rest can save."""
    Image.open(io.BytesIO(data)).load()
    return b""


def webp(image: Image.Image, method: int) -> bytes:
    """The image as a WebP file."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=method)
    return buffer.getvalue()


def apply(path: Path, function: Callable[[bytes], bytes]) -> bytes:
    """Read a file and do this with it, in a worker."""
    return function(path.read_bytes())


def timed(function: Callable[[bytes], bytes], paths: list[Path], count: int) -> float:
    """Seconds that `count` warm workers take for all files."""
    tasks = paths[:count] + paths
    work = partial(apply, function=function)

    def take(number: int | None = None) -> None:
        for _, answer in itertools.islice(answers, number):
            assert isinstance(answer, bytes), answer

    with closing(
        process_pool.call_each(work, tasks, count, prepare=confine, seconds=60)
    ) as answers:
        take(count)
        return measure.seconds(take)


def reference(data: bytes) -> np.ndarray:
    """The full decode, bicubic in floating point, not yet rounded."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    size = fit(image.size, MAX_SIZE)
    channels = [
        np.asarray(channel.convert("F").resize(size, Image.Resampling.BICUBIC))
        for channel in image.split()
    ]
    return np.stack(channels, axis=-1).clip(0, 255)


def psnr(data: bytes, wanted: np.ndarray) -> float:
    """Peak signal-to-noise ratio of a WebP file, in dB."""
    error = np.asarray(Image.open(io.BytesIO(data)), dtype=np.float64) - wanted
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def compare(files: list[bytes], count: int, rounds: int) -> None:
    """Both ways and the floor in turn, `rounds` times."""
    ways = {"plain": plain, "ours": ours, "decoding alone": decoding}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(number) for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        for _ in range(rounds):
            for name, function in ways.items():
                rates[name].append(len(files) / timed(function, paths, count))
    for name, found in rates.items():
        print(f"{name:15} {statistics.median(found):7.1f} images/s ({count} workers)")
    ratios = [mine / other for mine, other in zip(rates["ours"], rates["plain"], strict=True)]
    print(f"ratio           {statistics.median(ratios):7.2f} (median of {rounds}; wanted: 1.6)")
    both = [(plain(data), ours(data), reference(data)) for data in files]
    size = sum(len(mine) for _, mine, _ in both) / sum(len(other) for other, _, _ in both)
    gain = statistics.mean(psnr(mine, full) - psnr(other, full) for other, mine, full in both)
    level = statistics.mean(psnr(other, full) for other, _, full in both)
    print(f"size            {size:7.3f} of the plain way's (wanted: at most 1.05)")
    print(
        f"quality         {gain:+7.3f} dB against the plain way's {level:.2f} (wanted: from -0.2)"
    )


def methods(files: list[bytes]) -> None:
    """Time, size and quality of each WebP method on the same shrunken images."""
    small = []
    for data in files:
        image, size = decode(data, MAX_SIZE)
        small.append((shrink(to_rgb(image), size), reference(data)))
    for method in range(7):
        taken = measure.call(lambda: [webp(image, method) for image, _ in small])  # noqa: B023
        encoded, took = taken.result, taken.seconds / len(small)
        length = statistics.mean(len(data) for data in encoded)
        level = statistics.mean(
            psnr(data, full) for data, (_, full) in zip(encoded, small, strict=True)
        )
        print(f"method {method}: {took * 1000:5.0f} ms, {length / 1000:6.1f} kB, {level:.2f} dB")


def rerun(posts: int) -> None:
    """The time trainable.py takes when everything is finished already."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataFolder(Path(folder))
        data.originals.mkdir()
        data.resized.mkdir()
        with data.posts.open("w") as listed, data.verdicts.open("w") as verdicts:
            for post in range(1, posts + 1):
                original = data.original(post)
                original.write_bytes(b"original")
                data.resized_image(post).write_bytes(b"resized")
                # About the length of a real post.
                listed.write(json.dumps({"id": post, "tag_string": "tag_of_a_post " * 60}) + "\n")
                record = {
                    "id": post,
                    "verdict": "ok",
                    "reason": "",
                    "size": 8,
                    "mtime_ns": original.stat().st_mtime_ns,
                    "max_size": MAX_SIZE,
                    "quality": QUALITY,
                    "bytes": 7,
                }
                verdicts.write(json.dumps(record) + "\n")
        taken = measure.script("trainable.py", "--data", folder)
    told = taken.result.strip()
    print(f"rerun           {taken.seconds:7.2f} s over {posts} finished posts: {told}")


def main() -> None:
    """Run what the options ask for."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--pictures", type=int, default=20, help="default: %(default)s")
    options.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    options.add_argument(
        "--posts", type=int, default=65536, help="of the rerun; default: %(default)s"
    )
    options.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options.add_argument("--methods", action="store_true", help="compare libwebp's methods instead")
    args = options.parse_args()
    files = pictures(args.pictures, args.seed)
    if args.methods:
        methods(files)
        return
    compare(files, args.workers, args.rounds)
    rerun(args.posts)


if __name__ == "__main__":
    main()
