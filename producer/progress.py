"""How a run looks while it runs: a live line on a terminal, a plain line now and then elsewhere."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from workers.contract.messages import Answer, Outcome

from .manifest import Tally

#: Seconds between two plain lines.
_PLAIN_EVERY = 10.0
#: Seconds over which rates are measured.
_RECENT = 60.0
#: Rows, or this share of a run, that must have come back before the time left is told: the first to come are the shortest.
_ENOUGH, _ENOUGH_OF_ALL = 20, 0.1


class RunProgress:
    """Counts what comes back and shows rows, rows/s, tokens/s, time left and the yield so far."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._rows, self._outcomes = tally.rows, Counter(tally.by_outcome)
        self._new_rows = self._new_tokens = 0
        self._said = time.monotonic()
        #: Time, new rows and new tokens at the looks of the last minute, so that the rates follow workers that come and go.
        self._looks = deque([(self._said, 0, 0)])
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("answering", total=self._rows, completed=tally.stored, rates="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def watch(self, answers: list[Answer]) -> None:
        """Take note of what has just been stored, and show it."""
        for answer in answers:
            self._outcomes[answer.outcome] += 1
            self._new_rows += 1
            self._new_tokens += sum(completion.output_tokens for completion in answer.completions)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._outcomes.total(), rates=self._rates())
        elif answers and time.monotonic() - self._said > _PLAIN_EVERY:
            self._said = time.monotonic()
            self._console.print(f"{self._outcomes.total()}/{self._rows} rows · {self._rates()}", highlight=False, soft_wrap=True)

    def _rates(self) -> str:
        now = time.monotonic()
        if now - self._looks[-1][0] >= 1:
            self._looks.append((now, self._new_rows, self._new_tokens))
        while len(self._looks) > 2 and now - self._looks[1][0] > _RECENT:
            self._looks.popleft()
        since, rows_then, tokens_then = self._looks[0]
        seconds, rows = max(now - since, 0.001), self._new_rows - rows_then
        parts = [f"{rows / seconds:.1f} rows/s", f"{(self._new_tokens - tokens_then) / seconds:,.0f} tokens/s"]
        if rows and self._new_rows >= min(_ENOUGH, _ENOUGH_OF_ALL * self._rows):
            parts.append(f"{duration((self._rows - self._outcomes.total()) * seconds / rows)} left")
        if asked := self._outcomes.total() - self._outcomes[Outcome.SKIPPED]:
            parts.append(f"yield {self._outcomes[Outcome.ANSWERED] / asked:.0%}")
        return " · ".join(parts)


@contextlib.contextmanager
def waiting_line(console: Console, what: str) -> Iterator[Callable[[float], object]]:
    """Show that something is awaited: a spinner on a terminal, one line elsewhere."""
    if console.is_terminal:
        with console.status(escape(what)) as status:
            yield lambda seconds: status.update(escape(f"{what} {duration(seconds)}"))
    else:
        console.print(what, highlight=False, soft_wrap=True)
        yield lambda _: None


def counted(number: int, what: str) -> str:
    """Return how many there are of something: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time as people say it: ``42 s``, ``3 min 20 s``, ``5 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def outcome_line(tally: Tally) -> str:
    """Return the outcome of a run in one line."""
    counts = ", ".join(f"{tally.by_outcome[o]:,} {o}" for o in Outcome if o in tally.by_outcome) or "nothing stored yet"
    missing = tally.rows - tally.stored
    pending = f", {missing:,} not yet" if missing and tally.stored else ""
    the_yield = f" · yield {tally.answered / tally.asked:.0%} of {tally.asked:,}" if tally.asked else ""
    return f"{tally.rows:,} rows: {counts}{pending}{the_yield} · {tally.output_tokens:,} tokens"
