"""How a request fails, and so whether it is made again."""


class TransientError(Exception):
    """A failure that the next try may not meet.

    `retry_after` is the pause that the site asked for, in seconds; 0 where it asked for none.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class MismatchError(Exception):
    """A file of another size or MD5 than its post says. The next try may get the right one."""


class RefusedError(Exception):
    """A failure that every further try would meet."""


class DeniedError(RefusedError):
    """A refusal of this user or login, which requests for other files would meet too."""


class StoppedError(Exception):
    """The run is ending: this request is not finished."""
