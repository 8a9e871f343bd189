"""Turn SmilingWolf's tagger into an ONNX file that takes any batch size.

    python export_sw.py
    python export_sw.py --saved-model path/to/a/saved_model

The SavedModel comes from the model hub (--repo at --revision) or from a folder (--saved-model).
Writes <data>/<repository>.onnx and <data>/<repository>.csv, its tags, and checks the file against
TensorFlow before it gets its name. A second run finds its work done. With --half the numbers are
float16, the file half as large, and the names <repository>-half.onnx and <repository>-half.csv.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from arena import files, hub
from arena.cli import Options, UserError, run, say
from models import tags as tags_files

import numpy as np
import onnx
from google.protobuf.message import DecodeError

TAGS = "selected_tags.csv"
NEEDED = ("saved_model.pb", "variables/variables.index", "variables/variables.data-*", TAGS)
# Of one score between ONNX Runtime and TensorFlow.
LARGEST_DIFFERENCE = 1e-4
LARGEST_DIFFERENCE_OF_HALF = 5e-3
BATCHES = (1, 3)
VERSION = "2"  # Of the conversion: a file made by another one is made anew.


def main() -> None:
    """Find the SavedModel and its tags, then convert, check and write them where that is needed."""
    args = arguments()
    model, table = args.data.exported(args.name)
    with files.lock(args.data, "export_sw"):
        source, tags = find(args)
        made_from = fingerprint(source, args.half)
        if is_made_from(model, made_from) and same_bytes(table, source / TAGS):
            say(f"{model} is up to date: nothing to do")
            return
        difference = export(source, model, table, tags, made_from, args.half)
    size = model.stat().st_size / 1e6
    say(f"wrote {model} ({size:.1f} MB) and {table} ({tags} tags)")
    batches = " and ".join(map(str, BATCHES))
    precision = "in half precision, " if args.half else ""
    say(f"checked at batch sizes {batches}: {precision}within {difference:.1e} of TensorFlow")


def arguments() -> argparse.Namespace:
    """The options, with `name`: that of the files written."""
    options = Options(__doc__)
    options.value(
        "--repo",
        "ORG/NAME",
        "hub repository; its name is that of the files written",
        "SmilingWolf/wd-v1-4-vit-tagger-v2",
    )
    options.value("--revision", "REVISION", "tag, branch or commit of it", "v2.0")
    options.path(
        "--saved-model",
        "DIR",
        f"folder with saved_model.pb, variables/ and {TAGS}, instead of the hub's",
    )
    options.flag("--half", "write a model in half precision (float16), beside the other")
    args = options.parse_args()
    args.name = args.repo.rpartition("/")[2]
    if not args.name.strip("."):
        raise UserError(f"'{args.repo}' names no hub repository: give organisation/name")
    if not args.revision:
        raise UserError("--revision is empty: give a tag, branch or commit")
    args.name += "-half" if args.half else ""
    return args


def find(args: argparse.Namespace) -> tuple[Path, int]:
    """(folder of the SavedModel, how many tags it has), from the hub where no folder is given."""
    source = args.saved_model or hub.fetch_many(args.repo, args.revision, NEEDED)
    if not source.is_dir():
        raise UserError(f"{source} is no folder: give one with saved_model.pb")
    if not (source / TAGS).is_file():
        raise UserError(f"{source / TAGS} is missing: put the model's tags there")
    return source, len(tags_files.read(source / TAGS).names)


def fingerprint(source: Path, half: bool) -> str:
    """A hash of everything the export is made from."""
    total = hashlib.sha256(f"{VERSION} half\n".encode() if half else VERSION.encode())
    for path in sorted(path for pattern in NEEDED for path in source.glob(pattern)):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(source)} {digest}\n".encode())
    return total.hexdigest()


def is_made_from(model: Path, made_from: str) -> bool:
    """Whether `model` is a file that this script made from just these inputs."""
    try:
        properties = onnx.load(model).metadata_props
    except (FileNotFoundError, DecodeError):
        return False
    return any(entry.key == "made_from" and entry.value == made_from for entry in properties)


def same_bytes(one: Path, other: Path) -> bool:
    """Whether both files exist and hold the same."""
    return one.is_file() and one.read_bytes() == other.read_bytes()


def export(
    source: Path, target: Path, table: Path, tags: int, made_from: str, in_half: bool
) -> float:
    """Convert `source` to the ONNX file `target` and its tags to `table`.

    Returns the largest difference from TensorFlow's scores. Raises UserError, and leaves the old
    files as they are, when that is too large.
    """
    # TensorFlow takes seconds to load: only when there is work.
    from arena.export_sw import convert, half, saved_model

    signature = saved_model.load(source)
    if tags != signature.width:
        raise UserError(
            f"{source / TAGS} names {tags} tags and the SavedModel gives {signature.width} scores: "
            "take both from one revision"
        )
    model = convert.convert(signature)
    model = half.convert(model) if in_half else model
    onnx.helper.set_model_props(model, {"made_from": made_from})
    shape = (max(BATCHES), *signature.image_shape)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    expected = signature(images)
    with files.atomic(target) as file:
        file.write(convert.serialised(model))
        file.flush()
        given = [{signature.input_name: images[:batch]} for batch in BATCHES]
        answers = convert.run(str(files.temporary(target)), given, [signature.output_name])
        if in_half:
            rounded = convert.serialised(half.rounded(model))
            answers += convert.run(rounded, given, [signature.output_name])
        apart = [np.abs(scores - expected[: len(scores)]).max() for (scores,) in answers]
        difference = float(np.max(apart))  # NaN if there is one anywhere, unlike max().
        if not difference <= (LARGEST_DIFFERENCE_OF_HALF if in_half else LARGEST_DIFFERENCE):
            remedy = "export without --half" if in_half else "please report the model"
            raise UserError(
                f"the ONNX file's scores are up to {difference:.1e} away from TensorFlow's: it was "
                f"not kept; {remedy}"
            )
        # The old model goes first: a kill in between must not leave it beside the new tags.
        with (source / TAGS).open("rb") as original, files.atomic(table) as copy:
            shutil.copyfileobj(original, copy)
            target.unlink(missing_ok=True)
    return difference


if __name__ == "__main__":
    run(main)
