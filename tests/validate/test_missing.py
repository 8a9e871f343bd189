"""What is missing, damaged or too little is named, with what to do."""

import shutil
from pathlib import Path

from demo.tiny import make_data, make_model
from tests.helpers import call, refused
from tests.validate.helpers import QUICK, TAGS, validate


def test_too_few_resamples_are_refused(tmp_path: Path) -> None:
    refused(call("validate.py", "--data", tmp_path, "--bootstrap", 1), "0 or at least 100")


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    refused(call("validate.py", "--data", tmp_path / "no"), "--data")
    refused(call("validate.py", "--data", tmp_path), "run download.py --data")
    make_data(tmp_path, 12)
    refused(call("validate.py", "--data", tmp_path), "wd-v1-4-vit-tagger-v2", "export_sw.py")
    refused(validate(tmp_path, "no-such"), "no-such", "joytag")
    refused(validate(tmp_path, tmp_path / "no.toml"), "no.toml")
    model = make_model(tmp_path, "a", TAGS)
    other = make_model(tmp_path, "b", ["unlike", "these"])
    refused(validate(tmp_path, model, other), "no tag in common")
    refused(validate(tmp_path, model, more=(*QUICK, "--min-count", 99)), "--min-count")
    refused(validate(tmp_path, model, model), "names a twice", "name it once")
    refused(validate(tmp_path, model, more=(*QUICK, "--device", "cuda")), "--device cpu")
    refused(validate(tmp_path, model, more=("--posts", "many")), "--posts")
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:900])
    refused(validate(tmp_path, model), "a.onnx", "'file'")
    (tmp_path / "posts.jsonl").rename(tmp_path / "elsewhere")
    refused(validate(tmp_path, other), "posts.jsonl", "download.py")
    (tmp_path / "elsewhere").rename(tmp_path / "posts.jsonl")
    shutil.rmtree(tmp_path / "resized")
    refused(validate(tmp_path, other), "resized", "trainable.py")
    (tmp_path / "resized").mkdir()
    refused(validate(tmp_path, other), "no post", "trainable.py")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    image = sorted((tmp_path / "resized").glob("*.webp"))[5]
    image.write_bytes(image.read_bytes()[:-40])
    refused(validate(tmp_path, model), image.name, "trainable.py")
