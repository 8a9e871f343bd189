"""A model's TOML file, read and checked, and the files that it names.

A model is a name (the TOML file's stem in this folder) or a path to a TOML file elsewhere.
"""

import difflib
import json
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arena import files
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.tagger import First, ImageSettings
from models import keys, preprocess, preset, recognise

FOLDER = Path(__file__).parent
EXPORTED = "wd-v1-4-vit-tagger-v2"  # The name of what export_sw.py writes unless it is told other.


@dataclass(frozen=True)
class ModelCard:
    """A model's TOML file.

    `threshold` is one number, one for each tag category (`other`: for all that are not named), or
    the name of a column of the tags file. `held_out` are the first and last id % 1000 that were
    never trained on, `validated_on` those of them that chose its checkpoint or threshold. `output`
    names the output with the scores where several fit, `mask` a second input that marks padding.
    Tags come from the model's own source unless `tags_source` names another. `settings` are the
    image's: without a `preprocess` file. With one they are the keys that override what it says,
    until `whole` has read it.
    """

    name: str
    path: Path
    label: str
    kind: str
    source: str
    revision: str | None
    file: str
    tags: str
    threshold: float | dict[str, float] | str
    settings: ImageSettings | dict[str, Any]
    activation: str
    family: str = ""  # Its preset, or its kind.
    last_post_id: int | None = None
    held_out: tuple[int, int] | None = None
    validated_on: tuple[int, int] | None = None
    output: str | None = None
    mask: str | None = None
    tags_source: str | None = None
    tags_revision: str | None = None
    preprocess: str | None = None
    license: str | None = None  # As its page on the hub names it.
    gated: bool = False  # The hub asks for one's agreement before it gives the files.

    @property
    def image(self) -> ImageSettings:
        """What its images need done."""
        assert isinstance(self.settings, ImageSettings), f"{self.name} is not whole"
        return self.settings


def names() -> list[str]:
    """The names of all models in this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def card(name: str) -> ModelCard:
    """Read and check a model's TOML file; UserError names the file and the key that is wrong."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if recognise.is_source(name):
        path = Path(f"{name.partition('@')[0].rstrip('/').rpartition('/')[2]}.toml")
    elif not name.endswith(".toml") and name not in names():
        raise UserError(
            f"there is no model '{name}'{_meant(name)}: the models are {', '.join(names())}; one of"
            " your own is given as the path of its .toml file, a folder, or org/name on the hub"
        )
    try:
        own = tomllib.loads(text(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    table = preset.filled(own, path)
    if "preprocess" in table:
        table.setdefault("image", {})
    keys.check(path, "", table, keys.KEYS)
    family = str(own.get("preset", table["kind"]))
    table.pop("preset", None)
    image = table.pop("image")
    keys.check(path, "image.", image, keys.IMAGE_KEYS, whole="preprocess" not in table)
    _check_source(path, table, "source", "revision")
    if "tags_source" in table or "tags_revision" in table:
        _check_source(path, table, "tags_source", "tags_revision")
    keys.check_values(path, table)
    table = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    settings = image if "preprocess" in table else keys.image_settings(path, image)
    table.setdefault("revision", None)
    return ModelCard(name=path.stem, path=path, settings=settings, family=family, **table)


def whole(model: ModelCard, data: DataFolder) -> ModelCard:
    """A card with its image's settings, also where a file of its source says them.

    Fetches that file if need be. Raises UserError for one that says what is not known here.
    """
    if isinstance(model.settings, ImageSettings):
        return model
    (path,) = locate(model, data, str(model.preprocess))
    image = {**preprocess.image(path), **model.settings}
    keys.check(path, "image.", image, keys.IMAGE_KEYS)
    return replace(model, settings=keys.image_settings(path, image))


def text(name: str) -> str:
    """The TOML of a model: its file's, or what its source's files tell. Raises UserError."""
    if recognise.is_source(name):
        return recognise.toml(name)
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file: give the path of a model's TOML file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: give the path of a model's TOML file") from None


def _check_source(path: Path, table: dict[str, Any], source: str, revision: str) -> None:
    """Raise UserError unless a source is a folder, or a hub repository with its revision."""
    place = table.get(source, "")
    on_hub = not is_folder(place)
    if on_hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        raise UserError(
            f"{path}: key '{source}' is neither a hub repository (org/name) nor a folder"
            " (starting with . or / or ~)"
        )
    if on_hub != (revision in table):
        wrong = "is missing (the hub revision)" if on_hub else "has no use with a folder"
        raise UserError(f"{path}: key '{revision}' {wrong}")
    if table.get(revision) == "":
        raise UserError(f"{path}: key '{revision}' must be a tag, branch or commit")


def _meant(name: str) -> str:
    """A question that offers the model whose label or name is like `name`, if there is one."""
    labels = {_label(known).lower(): known for known in names()}
    labels |= {known.lower(): known for known in names()}
    close = difflib.get_close_matches(name.lower(), labels, n=1)
    return f" (did you mean {labels[close[0]]}?)" if close else ""


def _label(name: str) -> str:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return str(table.get("label", name))


def is_folder(source: str) -> bool:
    """Whether a card's source is a folder: written with a leading `.`, `/` or `~`."""
    return source.startswith((".", "/", "~"))


def shown_source(model: ModelCard) -> str:
    """A model's source for results, which say nothing of where on a machine a folder is."""
    if model.source == ".":
        return "written by export_sw.py" if is_exported(model) else "the data folder"
    return _shown(model.source)


def _shown(source: str) -> str:
    """A source without the path of a folder that is outside of the data folder."""
    return files.shown_path(source) if is_folder(source) else source


def portable(model: ModelCard) -> str:
    """A card as TOML that needs no preset and names no path of this machine: a folder outside of
    the data folder has its name only."""
    # What a preset or a file of its source says of the image is said here.
    apart = ("preset", "preprocess", "image", "threshold")
    said: dict[str, Any] = {key: getattr(model, key) for key in keys.KEYS if key not in apart}
    for key in ("source", "tags_source"):
        if said[key] is not None and is_folder(said[key]):
            said[key] = _shown(said[key]).replace("…", ".")
    tables = {"image": {key: getattr(model.image, key) for key in keys.IMAGE_KEYS}}
    if isinstance(model.threshold, dict):
        tables["threshold"] = model.threshold
    else:
        said["threshold"] = model.threshold
    lines = _toml_lines(said)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def _toml_lines(table: dict[str, Any]) -> list[str]:
    # JSON's texts, numbers and lists are TOML's too, but for one character.
    lines = []
    for key, value in table.items():
        if isinstance(value, First):
            lines.append(f"{key} = {{ {', '.join(_toml_lines(value._asdict()))} }}")
        elif value is not None:
            lines.append(
                f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
            )
    return lines


def is_exported(model: ModelCard) -> bool:
    """Whether a model's files are those that export_sw.py writes into the data folder."""
    return model.source == "." and Path(model.file).stem.removesuffix("-half") == EXPORTED


def remedy(model: ModelCard, *keys: str) -> str:
    """What to do about files that do not fit: the data folder's own come from export_sw.py."""
    again = " or run export_sw.py again" if is_exported(model) else ""
    named = " or ".join(f"'{key}'" for key in keys)
    return f"change {named} in {model.path}{again}"


def locate(model: ModelCard, data: DataFolder, *filenames: str) -> list[Path]:
    """The named files of a model's source, fetched from the hub where they are not cached.

    A folder is relative to `data`, where export_sw.py leaves its file. Raises UserError.
    """
    return [_locate(model, data, model.source, model.revision, name) for name in filenames]


def locate_tags(model: ModelCard, data: DataFolder) -> Path:
    """The tags file of a model, as `locate` finds files. Raises UserError."""
    if model.tags_source is None:
        return locate(model, data, model.tags)[0]
    return _locate(model, data, model.tags_source, model.tags_revision, model.tags)


def _locate(
    model: ModelCard, data: DataFolder, source: str, revision: str | None, name: str
) -> Path:
    if not is_folder(source):
        from arena import hub  # Here, as it takes half a second that a folder's models never need.

        return hub.fetch(source, str(revision), name)
    folder = data.root / Path(source).expanduser()
    files.check_name(folder)
    if not (folder / name).is_file():
        remedy = f"put it there, or correct its name or 'source' in {model.path}"
        if is_exported(model):
            remedy = f"run export_sw.py --data {data}"
        raise files.AbsentError(f"{model.name}: {folder / name} is missing: {remedy}")
    files.refuse_pointer(folder / name)
    return folder / name


def weight_names(model: ModelCard) -> list[str]:
    """The names of the files that hold a model's network."""
    if model.kind == "onnx":
        return [model.file]
    return [model.file, str(Path(model.file).with_name("config.json"))]


def is_cached(model: ModelCard, data: DataFolder) -> bool:
    """Whether a run would find the model's files on this machine."""
    tags = model.tags_source or model.source, model.tags_revision or model.revision, model.tags
    names = [*weight_names(model), *([model.preprocess] if model.preprocess else [])]
    others = [(model.source, model.revision, name) for name in names]
    return all(_is_here(data, *each) for each in (*others, tags))


def _is_here(data: DataFolder, source: str, revision: str | None, name: str) -> bool:
    if is_folder(source):
        return (data.root / Path(source).expanduser() / name).is_file()
    from arena import hub

    return hub.cached(source, str(revision), name)
