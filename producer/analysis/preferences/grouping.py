"""Which replies answer the same question: those of several sources joined, or the samples and the equal rows of one."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from producer.analysis.joining import Joined, join
from producer.analysis.replies import Row
from producer.analysis.sources import ColumnSource, RunSource


class Asked(NamedTuple):
    """One question, and the rows that hold its replies."""

    #: Where it stands among the questions, from 0.
    place: int
    joined: Joined
    #: Each with the number of its source; None where a source has no such row.
    rows: list[tuple[int, Row | None]]


def asked(sources: Sequence[RunSource | ColumnSource], column: str | None) -> Iterator[Asked]:
    """Yield every question of the sources; see ``joining.join``. Rows of one source that ask the same are one question."""
    together = join(sources, column)
    if len(sources) > 1:
        return (Asked(place, one, list(enumerate(one.sides))) for place, one in enumerate(together))
    return _grouped(sources[0], together)


def _grouped(source: RunSource | ColumnSource, rows: Iterator[Joined]) -> Iterator[Asked]:
    """Yield questions in the order of their last rows; only what repeats is held, until then."""
    repeated = {text for text, times in Counter(_digest(text) for text in source.sheet.questions() if text.strip()).items() if times > 1}
    times: Counter[Hashable] = Counter()
    for number, text in enumerate(source.sheet.questions()):
        if _digest(text) in repeated:
            times[source.messages(number)] += 1
    held: dict[Hashable, Asked] = {}
    for place, joined in enumerate(rows):
        (row,) = joined.sides
        if row is None or _digest(joined.question) not in repeated:
            yield Asked(place, joined, [(0, row)])
            continue
        messages = source.messages(row.row)
        group = held.setdefault(messages, Asked(place, joined, []))
        group.rows.append((0, row))
        if len(group.rows) == times[messages]:
            yield held.pop(messages)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
