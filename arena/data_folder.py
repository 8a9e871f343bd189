"""Every file that the scripts share: its name, who writes it and who reads it.

    download.py -> trainable.py -> export_sw.py -> validate.py

Data flows one way, from script to file to script.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The folder that --data names. Writing it as text gives the folder's path."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    # --- download.py

    @property
    def posts(self) -> Path:
        """One post a line, as the API gave it. Read by trainable.py and validate.py."""
        return self.root / "posts.jsonl"

    @property
    def walked(self) -> Path:
        """The pages of the site that need not be asked for again. Read by download.py."""
        return self.root / "walked.jsonl"

    @property
    def failed_posts(self) -> Path:
        """The posts whose file could not be had, and why. For people."""
        return self.root / "failed_posts.jsonl"

    @property
    def metadata(self) -> Path:
        """The folder of tag aliases and implications. Read by validate.py."""
        return self.root / "metadata"

    def tag_rows(self, name: str) -> Path:
        """The file of `tag_aliases` or `tag_implications`, named as in the Danbooru2021 dump."""
        return self.metadata / f"{name}000000000000.json"

    @property
    def site(self) -> Path:
        """site.txt: the address of the site that the posts came from. Read by validate.py."""
        return self.metadata / "site.txt"

    @property
    def originals(self) -> Path:
        """The folder of the posts' files, as served. Read by trainable.py."""
        return self.root / "originals"

    def original(self, post_id: int) -> Path:
        """A post's file, without an extension."""
        return self.originals / str(post_id)

    # --- trainable.py

    @property
    def verdicts(self) -> Path:
        """trainable.jsonl: the verdict on each post and why. Read by trainable.py."""
        return self.root / "trainable.jsonl"

    @property
    def resized(self) -> Path:
        """The folder of the images that taggers are tried on. Read by validate.py."""
        return self.root / "resized"

    def resized_image(self, post_id: int) -> Path:
        """A post's resized image."""
        return self.resized / f"{post_id}.webp"

    # --- export_sw.py

    def exported(self, name: str) -> tuple[Path, Path]:
        """The ONNX file and the tags of an exported model. Read by validate.py."""
        return self.root / f"{name}.onnx", self.root / f"{name}.csv"

    # --- validate.py

    def predictions(self, name: str) -> Path:
        """All scores of a model. Read by validate.py: it is the cache."""
        return self.root / f"{name}_predictions.pt"

    def predictions_aside(self, name: str, fingerprint: str) -> Path:
        """Scores of a model with other weights or settings, kept until those come back."""
        return self.root / f"{name}-{fingerprint[:16]}_predictions.pt"

    def prediction_parts(self, name: str, fingerprint: str) -> Path:
        """The folder of what an unfinished run has worked out for a model."""
        return self.root / f"{name}_predictions.parts" / fingerprint[:16]

    def mark(self, run: str, process: int) -> Path:
        """There for a moment: by it torchrun's processes see which of them share the folder."""
        return self.root / f".validate-{run}-{process}.mark"

    @property
    def marks(self) -> list[Path]:
        """Those that are there."""
        return list(self.root.glob(".validate-*-*.mark"))

    @property
    def ground_truth(self) -> Path:
        """What the predictions are scored against: bool (posts, common tags). For people."""
        return self.root / "ground_truth.pt"

    @property
    def validation_post_ids(self) -> Path:
        """The posts scored, one ID a line. For download.py's and validate.py's --post-ids."""
        return self.root / "validation_post_ids.txt"

    @property
    def validation_tags(self) -> Path:
        """The tags scored, one a line. For validate.py's --tags, and read by its next run."""
        return self.root / "validation_tags.txt"

    @property
    def history(self) -> Path:
        """A line a run: what was scored, and the headline figures. Read by validate.py."""
        return self.root / "history.jsonl"

    @property
    def detailed_metrics(self) -> Path:
        """The figures of each tag, as text. For people."""
        return self.root / "detailed_metrics.txt"

    @property
    def per_tag(self) -> Path:
        """The figures of each tag, for a spreadsheet. For people."""
        return self.root / "per_tag.csv"

    @property
    def thresholds(self) -> Path:
        """Thresholds fitted on the posts: for all tags, each category, each tag. For programs."""
        return self.root / "thresholds.csv"

    @property
    def metrics(self) -> Path:
        """All results. For programs."""
        return self.root / "metrics.json"

    @property
    def report(self) -> Path:
        """All results as a page. For people."""
        return self.root / "report.html"

    @property
    def report_posts(self) -> Path:
        """The folder of what each model says of each post. Read by report.html."""
        return self.root / "report_posts"

    @property
    def results(self) -> list[Path]:
        """What validate.py writes anew each time; metrics.json, which says of what, is last."""
        page = [self.report, self.report_posts]
        for_people = [self.detailed_metrics, self.per_tag, self.thresholds, *page]
        lists = [self.validation_post_ids, self.validation_tags]
        return [self.ground_truth, *lists, *for_people, self.metrics]

    def earlier(self, date: str) -> "DataFolder":
        """The results of an earlier run, when those of another selection took their place."""
        return DataFolder(self.root / "earlier" / date)

    @property
    def audit(self) -> Path:
        """Which pairs --audit has drawn, and how likely each was. Read by validate.py."""
        return self.root / "audit.json"

    @property
    def audit_page(self) -> Path:
        """The page on which people judge those pairs."""
        return self.root / "audit.html"

    @property
    def judgements(self) -> list[Path]:
        """What people saved on that page, a file or more of each, by name. Read by validate.py."""
        return sorted(self.root.glob("judgements*.jsonl"))

    # --- all four

    @property
    def folders(self) -> list[Path]:
        """The folders of fixed names."""
        return [self.metadata, self.originals, self.resized, self.report_posts]

    @property
    def files(self) -> list[Path]:
        """The files that a script looks for by name."""
        texts = [self.posts, self.walked, self.failed_posts, self.verdicts]
        rows = [self.tag_rows(name) for name in ("tag_aliases", "tag_implications")]
        audit = [self.audit, self.audit_page, *self.judgements]
        results = [path for path in self.results if path not in self.folders]
        return [*texts, *rows, self.site, self.history, *results, *audit]

    def lock(self, script: str) -> Path:
        """The file that a run of a script holds, so that there is one run at a time."""
        return self.root / f".{script}.lock"


def data_folder(text: str) -> DataFolder:
    """An argparse type: the folder of that path, `~` expanded. Empty where a variable was unset."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path: give a folder, or . for this one")
    return DataFolder(expanded(text))


def expanded(text: str) -> Path:
    """An argparse type: a path, `~` expanded."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"'{text}' begins with the home of no user here") from None
