"""How the stand-in fails, as a real site, its file host and what stands before both do."""

import email.utils
import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from demo.answer import Answer
from demo.site import TIMED_OUT, error


def page(status: int, title: str, **headers: str) -> Answer:
    """A page for browsers, as what stands before a site and its file host has for errors."""
    html = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Answer(status, "text/html; charset=UTF-8", html.encode(), headers)


CHALLENGE = page(403, "Just a moment...", **{"cf-mitigated": "challenge"})
NO_FILE = page(404, "404 Not Found")

# What may go wrong with an answer, by the kind of answer. `503` is maintenance.
CHALLENGES = ("challenge", "challenge 503")
ANY_FAULTS = ("429", "500", "503", "reset", "cut", *CHALLENGES, "html", "stall")
JSON_FAULTS = (*ANY_FAULTS, "cut json", "overlap", "repeat")
FILE_FAULTS = (*ANY_FAULTS, "flip")
FAULTS = (*JSON_FAULTS, "flip")


@dataclass(frozen=True)
class Faults:
    """Which requests fail, decided by seed, path and how often that path was asked for.

    A path fails with probability `rate`, but never more than `most` times, so that a client that
    tries again gets through. `stall` seconds of silence precede an answer that stalls.
    """

    rate: float = 0.3
    seed: int = 0
    most: int = 3
    kinds: Collection[str] = tuple(kind for kind in FAULTS if kind != "stall")
    retry_after: int = 1
    stall: float = 5.0

    def pick(self, path: str, nth: int, possible: Collection[str]) -> str | None:
        """The fault that meets the `nth` (from 0) request for `path`, if any."""
        kinds = [kind for kind in possible if kind in self.kinds]
        if not kinds or nth >= self.most:
            return None
        dice = random.Random(f"{self.seed} {path} {nth}")
        return dice.choice(kinds) if dice.random() < self.rate else None

    def spoil(self, answer: Answer, fault: str) -> Answer:
        """What is sent in place of `answer` (`cut` and `reset` happen while it is sent)."""
        if fault == "429":
            limited = error(429, "RateLimiter::RateLimitError", "Rate limit exceeded.")
            refusal = limited if isinstance(answer.body, bytes) else page(429, "Too many requests")
            return refusal._replace(headers={"Retry-After": str(self.retry_after)})
        if fault == "500":
            return TIMED_OUT if isinstance(answer.body, bytes) else page(500, "Server error")
        if fault == "503":
            now = email.utils.formatdate(usegmt=True)
            return page(503, "Down for maintenance", **{"Retry-After": now})
        if fault in CHALLENGES:
            return CHALLENGE._replace(status=403 if fault == "challenge" else 503)
        if fault == "html":
            return page(200, "Welcome")
        if fault == "stall":
            time.sleep(self.stall)
        elif fault == "cut json" and isinstance(answer.body, bytes):
            return answer._replace(body=answer.body[: len(answer.body) // 2])
        elif fault == "flip" and isinstance(answer.body, Path):
            data = bytearray(answer.body.read_bytes())
            data[len(data) // 3] ^= 1
            return answer._replace(body=bytes(data))
        return answer
