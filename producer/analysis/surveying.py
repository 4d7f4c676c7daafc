"""A pass over a source: its rows measured one by one, and added up as a whole and by the values of a column."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import repeat
from typing import Any, NamedTuple

from workers.contract.errors import UserError

from .duplicates import DuplicateFinder, Duplicates
from .gold import Match
from .sources import ColumnSource, RunSource, text_of
from .statistics import Measured, Statistics, measure

#: More groups than this are no groups: the column is an identifier.
_MOST_GROUPS = 200


class Survey(NamedTuple):
    """What a source amounts to."""

    source: RunSource | ColumnSource
    total: Statistics
    duplicates: Duplicates
    #: By the texts in the column that was asked for, in the order in which they come.
    groups: dict[str, Statistics]

    def told(self) -> dict[str, Any]:
        """Return it for programs."""
        groups = [{"value": value} | statistics.told() for value, statistics in self.groups.items()]
        total = self.total.told() | {"duplicates": self.duplicates.told()}
        return {"name": self.source.name, "model": self.source.model, "total": total, "groups": groups}


def survey(
    source: RunSource | ColumnSource,
    by: str | None = None,
    gold: str | None = None,
    match: Match = Match.AUTO,
    look: Callable[[Measured], None] = lambda _: None,
) -> Survey:
    """Measure all rows of a source; ``look`` sees each. Raises UserError if a column is not there, or has too many values to group by."""
    total, groups = Statistics(source.reply_format), dict[str, Statistics]()
    with closing(DuplicateFinder()) as finder:
        for row, value, wanted in zip(source.rows(), _texts(source, by), _texts(source, gold), strict=False):
            measured = measure(row, source.reply_format, wanted, match)
            total.add(measured, wanted)
            if by is not None:
                if value not in groups and len(groups) == _MOST_GROUPS:
                    raise UserError(f"column {by!r} has more than {_MOST_GROUPS} values; choose one with fewer for --by")
                groups.setdefault(value, Statistics(source.reply_format)).add(measured, wanted)
            if measured.answer:
                finder.add(row.row, row.question, measured.answer)
            look(measured)
        return Survey(source, total, finder.found(), groups)


def _texts(source: RunSource | ColumnSource, column: str | None) -> Iterator[str]:
    return repeat("") if column is None else map(text_of, source.cells(column))
