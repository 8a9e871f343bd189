"""validate.py's command line."""

import argparse
import os

from arena.cli import Options, at_least, names
from arena.data_folder import data_folder
from arena.validate import clusters, distributed, inference


def arguments(doc: str | None) -> argparse.Namespace:
    """The command line; `doc` is the head of --help."""
    options = Options(doc)
    add, number = options.value, options.number
    add(
        "--models",
        "A,B",
        "names in models/, paths of TOML files, folders, org/name[@revision] on the hub, or"
        " predictions files: paths, folders of them, or datasets/org/name[/file][@revision]; a+b is"
        " the mean of two that are named as well",
        "wd-v1-4-vit-tagger-v2,joytag",
        type=names,
    )
    options.add_argument(
        "--list-models",
        nargs="?",
        const="table",
        choices=["table", "json"],
        help="print what is known of each model, and stop; json is for programs (default: off)",
    )
    add("--audit", "N", "ask people about N tags of posts; alone: 400", type=at_least(1), alone=400)
    add("--show-card", "NAME", "print the TOML that a model is run by, and stop")
    number("--posts", 1, 32768, "how many posts, lowest ids first")
    add("--model-index", "NAME", "print a model's figures as YAML for its model card, and stop")
    options.flag("--history", "print the figures of all runs so far as a table, and stop")
    add("--check", "NAME", "compare a model's image settings with others on 300 posts, and stop")
    options.path("--post-ids", "FILE", "exactly these posts, one id a line")
    options.path("--tags", "FILE", "exactly these tags, one a line")
    options.flag("--unseen-only", "leave out posts that a chosen model may have been trained on")
    number("--min-count", 1, 10, "leave out tags on fewer posts")
    batches = (
        f"images a batch (default: {inference.GPU_BATCH} on a GPU, {inference.CPU_BATCH} on a CPU)"
    )
    number("--batch-size", 1, None, batches)
    cores = max(1, len(os.sched_getaffinity(0)) // distributed.local_size())
    number("--workers", 1, cores, "threads that decode images", shown="one a CPU, here %(default)s")
    options.choice(
        "--device",
        ["auto", "cpu", "cuda"],
        "where the networks run; auto is cuda where there is one",
    )
    options.choice(
        "--precision",
        ["auto", "float32", "half"],
        "of the networks' sums; auto is half on a GPU and float32 on a CPU",
    )
    add(
        "--bootstrap",
        "N",
        "resamples for the intervals, at least 100, or 0 for none",
        200,
        type=resample_count,
    )
    options.flag("--thumbnails", "put small copies of the posts that it shows into report.html")
    options.choice(
        "--cluster",
        clusters.UNITS,
        "posts that are drawn together for the intervals, as they are no independent ones: those of"
        " one artist or family, of one family (parents, children, siblings), or none",
    )
    options.flag("--ci", "print 95%% intervals in the table")
    add("--out", "DIR", "folder of the results (default: that of --data)", type=data_folder)
    options.choice(
        "--store",
        ["float32", "half"],
        "what scores are kept in; half is half the disk, and a file that is so stays so",
    )
    options.flag("--fresh", "forget the chosen models' predictions")
    return options.parse_args()


def resample_count(text: str) -> int:
    """An argparse type: 0, or enough resamples for 95% intervals."""
    count = at_least(0)(text)
    if 0 < count < 100:
        raise argparse.ArgumentTypeError(f"{count} resamples are too few: give 0 or at least 100")
    return count
