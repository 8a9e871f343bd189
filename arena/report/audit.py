"""audit.html, the page to judge tags with, and what a run says of the corrected figures."""

import base64
import hashlib
import json
from pathlib import Path
from string import Template
from typing import Any

from arena.report.limits import all_cut
from arena.report.text import Metrics, labels

FOLDER = Path(__file__).parent


def html(name: str, pairs: list[list[Any]], examples: dict[str, list[int]]) -> str:
    """audit.html: one file that asks for nothing but the images beside it.

    `name` is the audit's own; `pairs` are [post ID, tag, category, whether it is judged already];
    `examples` are posts that have each tag. Its content security policy lets only the script
    written here run, by its hash.
    """
    script = (FOLDER / "audit.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {"id": name, "pairs": pairs, "examples": examples}
    # Not shortened or made printable, as saved judgements name their tags by it.
    text = json.dumps(data, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Template((FOLDER / "audit.html").read_text(encoding="utf-8")).substitute(
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file: data: blob:; "
        f"base-uri 'none'; form-action 'none'; script-src 'sha256-{digest}'",
        style=(FOLDER / "audit.css").read_text(encoding="utf-8"),
        data=text,
        script=script,
    )


def lines(metrics: Metrics) -> list[str]:
    """What a run prints of the corrected figures, nothing without them."""
    audit = all_cut(metrics.get("audit"))
    if not audit:
        return []
    sentences = [
        f"Corrected by {audit['judged']} judged pairs, of all pairs together, with 95% intervals:"
    ]
    names = {model["name"]: model for model in metrics["models"]}
    shown = dict(zip(names, labels(metrics), strict=True))
    for model in audit["models"]:
        raw = names[model["name"]]["overall"]["own"]["micro"]
        sentences.append(
            f"{shown[model['name']]}: precision {_figure(model['precision'])}, raw"
            f" {raw['precision']['value']:.4f}; pooled recall {_figure(model['pooled_recall'])},"
            f" raw {raw['recall']['value']:.4f}; F1 {_figure(model['f1'])},"
            f" raw {raw['f1']['value']:.4f}"
        )
    for pair in audit["pairs"]:
        sentences.append(f"{shown[pair['a']]} minus {shown[pair['b']]}: F1 {_figure(pair['f1'])}")
    site = audit["site"]
    sentences.append(
        f"The posts lack {_figure(site['missing'], 100)}% of their true tags, and"
        f" {_figure(site['wrong'], 100)}% of their tags are wrong."
    )
    if agreement := audit["agreement"]:
        kappa = agreement["kappa"]
        sentences.append(
            f"Two people agree on {agreement['agreed']} of {agreement['pairs']} pairs"
            + (f" (Cohen's kappa {kappa:.2f})." if kappa is not None else ".")
        )
        without_errors = [
            f"{shown[model['name']]}'s {model['without_errors']['f1']:.4f}"
            for model in audit["models"]
            if model["without_errors"]
        ]
        if without_errors:
            sentences.append(
                f"So each is right about {agreement['accuracy']:.0%} of the time; without such"
                f" errors F1 would be {', '.join(without_errors)}."
            )
    if audit["further"] is None:
        sentences.append("It takes more posts, not only judgements, to bring every F1 to ± 0.01.")
    elif audit["further"]:
        sentences.append(
            f"About {audit['further']} more judgements would bring every F1 to ± 0.01."
        )
    return sentences


def _figure(figure: dict[str, Any], times: int = 1) -> str:
    places = 1 if times == 100 else 4
    text = f"{times * figure['value']:.{places}f}"
    if figure["low"] is not None:
        low, high = times * figure["low"], times * figure["high"]
        text += f" ({low:.{places}f} to {high:.{places}f})"
    return text
