"""Danbooru's tag aliases and implications, read from the files of the Danbooru2021 dump.

This package stands in for the danbooru-metadata library, under its import name and interface, as
that library is on no package registry.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path


class TagMappings:
    """The active aliases and implications of a metadata folder, plus two optional tag lists.

    `aliases` maps a tag to the canonical tag its chain of aliases ends on; `implications` maps a
    canonical tag to every canonical tag it implies, transitively, `direct_implications` to those
    of its own rows; `blacklist` and `deprecations` are the tags of `tag_blacklist.txt` and
    `tag_deprecations.txt` (one a line), empty where there is no such file.

    Raises FileNotFoundError without the two metadata files, and ValueError that names the line of
    a file that holds no JSON object with the three text fields.
    """

    def __init__(self, metadata_dir: str | Path) -> None:
        folder = Path(metadata_dir)
        targets: dict[str, str] = {}
        for antecedent, consequent in _active_rows(folder / "tag_aliases000000000000.json"):
            # Danbooru gives a tag one alias; should a file contradict itself, its first row stands.
            targets.setdefault(antecedent, consequent)
        self.aliases: dict[str, str] = _chain_ends(targets)
        direct: dict[str, set[str]] = {}
        self.direct_implications: Mapping[str, set[str]] = direct
        for antecedent, consequent in _active_rows(folder / "tag_implications000000000000.json"):
            implying = self.get_canonical(antecedent)
            direct.setdefault(implying, set()).add(self.get_canonical(consequent))
        self.implications: Mapping[str, frozenset[str]] = _Closure(direct)
        self.blacklist: set[str] = _tag_list(folder / "tag_blacklist.txt")
        self.deprecations: set[str] = _tag_list(folder / "tag_deprecations.txt")

    def get_canonical(self, tag: str) -> str:
        """The tag at the end of `tag`'s chain of aliases, or `tag` itself."""
        return self.aliases.get(tag, tag)

    def get_implications(self, tag: str) -> frozenset[str]:
        """Every canonical tag that `tag` (through its alias) implies, itself not included."""
        return self.implications.get(self.get_canonical(tag), frozenset())


class _Closure(Mapping[str, frozenset[str]]):
    """The transitive closure of direct implications, searched for a tag each time it is asked for.

    Not kept, as the closures of all tags of one long chain would not fit in memory.
    """

    def __init__(self, direct: dict[str, set[str]]) -> None:
        self._direct = direct

    def __getitem__(self, tag: str) -> frozenset[str]:
        found = set(self._direct[tag])
        stack = list(found)
        while stack:
            for implied in self._direct.get(stack.pop(), ()):
                if implied not in found:
                    found.add(implied)
                    stack.append(implied)
        return frozenset(found - {tag})

    def __iter__(self) -> Iterator[str]:
        return iter(self._direct)

    def __len__(self) -> int:
        return len(self._direct)


def _chain_ends(targets: dict[str, str]) -> dict[str, str]:
    """Each tag's last target; the tags of a cycle all end on its alphabetically first."""
    ends: dict[str, str] = {}
    for tag in targets:
        path: dict[str, None] = {}  # A set that keeps its order.
        here = tag
        while here in targets and here not in ends and here not in path:
            path[here] = None
            here = targets[here]
        if here in path:
            chain = list(path)
            end = min(chain[chain.index(here) :])
        else:
            end = ends.get(here, here)
        ends.update(dict.fromkeys(path, end))
    return {tag: end for tag, end in ends.items() if tag != end}


def _active_rows(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                texts = [row["antecedent_name"], row["consequent_name"], row["status"]]
            except (ValueError, TypeError, KeyError, RecursionError):
                texts = []
            if not texts or not all(isinstance(text, str) for text in texts):
                raise ValueError(
                    f"{path} line {number} is no JSON object with antecedent_name,"
                    " consequent_name and status"
                )
            if texts[2] == "active":
                yield texts[0], texts[1]


def _tag_list(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
