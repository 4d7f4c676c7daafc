"""From what was asked for to the rule that decides, with the columns that it goes by."""

import unicodedata
from array import array
from collections.abc import Sequence
from math import isfinite, nan

from producer.analysis.gold import Match, is_right
from producer.analysis.joining import Joined
from producer.analysis.sources import ColumnSource, RunSource, column_of, text_of
from producer.workbook.cells import Cell, CellError, as_text
from workers.contract.errors import UserError

from .candidates import Candidate
from .judgements import Judgements
from .options import By, PairOptions
from .quality import IsRight, measured
from .rules import ByJudgement, ByQuality, ByScore, BySource, Rule


def choose_rule(by: By, sources: Sequence[RunSource | ColumnSource], wanted: PairOptions, judgements: Judgements | None) -> Rule:
    """Return the rule. Raises UserError for a column that is not there, or holds no score at all."""
    match by:
        case By.SOURCE:
            return BySource([source.name for source in sources])
        case By.SCORE:
            return _by_score(sources, wanted)
        case By.JUDGEMENTS:
            assert judgements is not None
            return ByJudgement(judgements, measured())
        case By.GOLD | By.BEST:
            held = _against_gold(sources[0], wanted.gold, wanted.match) if wanted.gold is not None else None
            return ByQuality(measured(held), gold=wanted.gold or "", only_gold=by is By.GOLD)


def _against_gold(first: RunSource | ColumnSource, header: str, match: Match) -> IsRight:
    """Return what holds a candidate against the gold answer of its question, which stands in a column of the first source."""
    column = column_of(first.sheet, header)

    def right(joined: Joined, one: Candidate) -> bool | None:
        return is_right(one.reply.answer, text_of(joined.cells[column]), match)

    return right


def _by_score(sources: Sequence[RunSource | ColumnSource], wanted: PairOptions) -> ByScore:
    headers = list(wanted.score or ())
    headers = headers * len(sources) if len(headers) == 1 else headers
    if len(headers) != len(sources):
        raise UserError(f"--score is given {len(headers)} times for {len(sources)} sources: give it once, or once for each in their order")
    scores = [array("d", map(score_of, source.cells(header))) for source, header in zip(sources, headers, strict=True)]
    for source, header, column in zip(sources, headers, scores, strict=True):
        if not any(map(isfinite, column)):
            raise UserError(f"column {header!r} of {source.name} holds no number in any of {len(column):,} rows: it is no column of scores")
    return ByScore(scores, headers, wanted.margin)


def score_of(cell: Cell) -> float:
    """Return what a cell says as a number, full-width digits too; NaN if it says none."""
    if isinstance(cell, CellError | bool):
        return nan
    if isinstance(cell, (int, float)):
        return float(cell) if isfinite(cell) else nan
    try:
        number = float(unicodedata.normalize("NFKC", as_text(cell)).strip().replace("−", "-"))
    except ValueError:
        return nan
    return number if isfinite(number) else nan
