"""Which requests that wait are let into a full batch, and when: several at once, so that few steps read prompts.

A step that only continues rows is replayed as a CUDA graph; one that also reads a prompt is launched kernel by kernel and takes twice
as long, whether it reads one prompt or ten. A batch whose rows leave one by one, each followed by the next, has few other steps.
"""

from .vllm_messages import Request

#: The share of the batch that must be free before it is filled up again.
_SHARE = 1 / 32
#: Steps after which whatever is free is filled: the end of a run, and rows that all are long.
_PATIENCE = 16


class Admission:
    """The requests that are not in the engine yet, in the order in which they came."""

    def __init__(self, places: int) -> None:
        self._places, self._group = places, max(1, int(places * _SHARE))
        self._held: dict[str, Request] = {}
        self._since = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, request: Request, step: int) -> None:
        """Have a request wait; ``step`` counts the engine's steps."""
        if not self._held:
            self._since = step
        self._held[request.request_id] = request

    def forget(self, request_id: str) -> bool:
        """Drop a request; say whether it was here."""
        return self._held.pop(request_id, None) is not None

    def let_in(self, unfinished: int, step: int) -> list[Request]:
        """Return those that the engine, which has ``unfinished`` replies to write, gets before its next step."""
        free = self._places - unfinished
        if free <= 0 or (free < self._group and step - self._since < _PATIENCE):
            return []
        self._since = step
        entering = []
        while self._held and free > 0:
            request = self._held.pop(next(iter(self._held)))
            free -= request.params.n  # a request for several samples takes as many places
            entering.append(request)
        return entering
