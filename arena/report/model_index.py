"""A model's figures as the hub's model cards hold them: the YAML of a `model-index`.

https://huggingface.co/docs/hub/model-cards#evaluation-results says what the hub does with it.
"""

from arena.cli import UserError, plain
from arena.report.limits import cut
from arena.report.text import Metrics

from huggingface_hub import EvalResult, ModelCardData

# The figure's name, the metric's name on the hub, and where it is in a model's results.
FIGURES = (
    ("Macro F1 at the model's own threshold", "f1", ("own", "macro", "f1")),
    ("Macro precision at the model's own threshold", "precision", ("own", "macro", "precision")),
    ("Macro recall at the model's own threshold", "recall", ("own", "macro", "recall")),
    ("Macro F1 where precision equals recall", "f1", ("equal", "macro", "f1")),
    ("Macro average precision", "average_precision", ("ap", "macro")),
)


def model_index(metrics: Metrics, name: str) -> str:
    """The YAML for the head of the card of the model called `name`, without the `---` around it.

    Raises UserError for a model that the results do not have.
    """
    models = {model["name"]: model for model in metrics["models"]}
    if name not in models:
        known = ", ".join(sorted(models))
        raise UserError(f"the results have no model '{name}', only {known}: run it first")
    model, posts = models[name], metrics["posts"]
    where = f"{posts['count']} Danbooru posts, IDs {posts['min_id']} to {posts['max_id']}"
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Multi-label image tagging",
            dataset_type="danbooru",
            dataset_name=f"Validation Arena: {where}, {metrics['tags']['count']} tags",
            dataset_revision=posts["sha256"],
            metric_type=metric,
            metric_name=_told(title, _figure(model["overall"], path)),
            metric_value=round(_figure(model["overall"], path)["value"], 4),
        )
        for title, metric, path in FIGURES
    ]
    return ModelCardData(model_name=plain(model["label"]), eval_results=results).to_yaml()


def _figure(overall: Metrics, path: tuple[str, ...]) -> Metrics:
    found = overall
    for step in path:
        found = found[step]
    return found


def _told(title: str, figure: Metrics) -> str:
    """The title with the figure's 95% interval, where it has one."""
    if figure["low"] is None:
        return title
    ends = cut(figure)
    return f"{title} (95% interval {ends['low']:.4f} to {ends['high']:.4f})"
