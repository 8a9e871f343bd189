"""Word from the other processes of a run, which may be on other machines.

Gloo does not notice that a machine has gone, and that a process has died only where it is waited
for. So each process counts up in the store at which torchrun's processes meet, and looks at the
counts of the others. One whose count stands still for `SILENT` seconds, or that has failed, ends
the others, whatever they are at: what they have finished is on disk, and the rest would wait for
days.
"""

import os
import threading
import time
from contextlib import suppress

from arena import cli

from torch.distributed import DistError
from torch.distributed.distributed_c10d import Store

BEAT = 2  # Seconds from one count to the next.
SILENT = 100  # Less than two minutes, and more than a library may keep Python's lock.
NEVER_SEEN = 600  # Of one that has not counted yet: a slow disk has much to read before it does.
GRACE = 10  # Seconds in which a process may still come to an end of its own.
FAILED, DONE = -1, -2  # In place of a count.
KEPT = "finished work is kept, run the same command again"


class Heartbeat:
    """The two threads that count and look, from when this is made until `leave`."""

    def __init__(self, store: Store, process: int, node: int, count: int) -> None:
        """Of `count` processes this is number `process`, on the machine that torchrun numbers
        `node`. Nobody else uses the store."""
        self._store, self._process, self._node = store, process, node
        # A restart by torchrun meets at the same store.
        self._attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        self._meeting = os.environ["MASTER_ADDR"]
        self._others = [other for other in range(count) if other != process]
        self._left = FAILED
        self._over = threading.Event()
        self._rounds = 0
        self._counting = threading.Thread(target=self._count, name="heartbeat", daemon=True)
        self._counting.start()
        threading.Thread(target=self._watch, name="heartbeat's watch", daemon=True).start()

    def leave(self, *, done: bool) -> None:
        """Tell the others that this process has come to its end, or that it has failed."""
        self._left = DONE if done else FAILED
        self._over.set()
        self._counting.join(GRACE)

    def _count(self) -> None:
        try:
            self._store.set(self._key(self._process, "node"), str(self._node))
            self._store.add(self._key(self._process, "count"), 1)
            silent = dict.fromkeys(self._others, 0.0)
            counts: dict[int, int] = {}
            last = time.monotonic()
            while not self._over.wait(BEAT):
                self._store.add(self._key(self._process, "count"), 1)
                now = time.monotonic()
                # Time in which this process was itself held up says nothing of the others.
                passed, last = min(now - last, 5 * BEAT), now
                for other in list(silent):
                    count = self._store.add(self._key(other, "count"), 0)
                    if count == DONE:
                        del silent[other]
                    elif count == FAILED:
                        self._end(f"{self._name(other)} has ended: what it said there tells why")
                    else:
                        silent[other] += passed
                        if count != counts.get(other):
                            counts[other], silent[other] = count, 0
                        elif silent[other] > (limit := SILENT if count else NEVER_SEEN):
                            self._end(
                                f"{self._name(other)} has been silent for {limit} seconds: see"
                                " whether it and its machine are still up"
                            )
                self._rounds += 1
            self._store.set(self._key(self._process, "count"), str(self._left))
        except DistError:
            self._end(self._unreachable())

    def _watch(self) -> None:
        """End this process where the store answers nothing, not even that it has gone."""
        seen, waited = 0, 0
        while not self._over.wait(1):
            waited = waited + 1 if self._rounds == seen else 0
            seen = self._rounds
            if waited > SILENT:
                self._end(self._unreachable())

    def _name(self, other: int) -> str:
        """What to call a process."""
        with suppress(DistError):
            if self._store.check([self._key(other, "node")]):
                return process_name(other, int(self._store.get(self._key(other, "node"))))
        return f"process {other}"

    def _unreachable(self) -> str:
        return (
            f"torchrun on {self._meeting}, where the processes meet, has ended or cannot be"
            " reached: see what process 0 said, and whether its machine is still up"
        )

    def _key(self, process: int, what: str) -> str:
        return f"heartbeat/{self._attempt}/{process}/{what}"

    def _end(self, reason: str) -> None:
        """End this process, unless it does so by itself in time."""
        if not self._over.wait(GRACE):
            cli.end(2, f"error: {reason}; {KEPT}")


def process_name(process: int, node: int) -> str:
    """What to call a process, by torchrun's numbers of it and of its machine."""
    return f"process {process} on node {node}"
