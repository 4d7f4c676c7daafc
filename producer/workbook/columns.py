"""Columns by name: which one holds the questions, and where the answers go."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count
from typing import NamedTuple

from workers.contract.errors import WorkbookError

#: Headers that mean "question", the likeliest first; compared after NFKC, trimming and case folding.
QUESTION_HEADERS = (
    *("question", "questions", "prompt", "質問", "質問文", "質問内容", "設問", "設問文", "問題", "問題文", "問い", "問"),
    *("プロンプト", "指示", "instruction", "query"),
)

#: The headers of our own sheet Errors, which is no sheet of questions although it has a column of them.
ERRORS_HEADERS = ("row", "question", "outcome", "cause", "attempts")
#: Those of our sheet Run.
RUN_HEADERS = ("what", "value")


#: Characters that show nothing, and blanks beside letters that are not Latin: people spread a short header out (``質　問``).
_NOTHING = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_SPREAD = re.compile(r"(?<=[^\x00-\x7f]) | (?=[^\x00-\x7f])")


class OutputColumn(NamedTuple):
    """Where one of our columns goes."""

    #: What it holds: ``answer``, ``reasoning_2``, ``outcome``, ...
    field: str
    header: str
    #: Index of the source's own, empty column that it fills; None for a new one at the end.
    fills: int | None


def normalised(header: str) -> str:
    """Return a header as it is compared: full-width letters, case and white space do not count."""
    words = " ".join(_NOTHING.sub("", unicodedata.normalize("NFKC", header)).split())
    return _SPREAD.sub("", words).casefold()


def find_question_column(headers: Sequence[str], wanted: str | None = None) -> int | None:
    """Return the index of the question column: the one named, or the likeliest. Raises WorkbookError if it stands there twice."""
    if wanted is not None and headers.count(wanted) == 1:  # whoever writes it as it stands there means that one
        return headers.index(wanted)
    names = [normalised(header) for header in headers]
    for name in [normalised(wanted)] if wanted is not None else QUESTION_HEADERS:
        places = [i for i, header in enumerate(names) if header == name]
        if len(places) > 1:
            raise WorkbookError(f"{len(places)} columns are called {headers[places[0]]!r}; rename all but one")
        if places:
            return places[0]
    return None


def answer_fields(samples: int) -> list[str]:
    """Return the fields of our columns in their order; every sample after the first has an answer and a reasoning of its own."""
    more = [f"{field}_{k}" for k in range(2, samples + 1) for field in ("answer", "reasoning")]
    return ["answer", "reasoning", "outcome", "finish_reason", "prompt_tokens", "output_tokens", "error", *more]


def tells_of_a_reply(header: str) -> bool:
    """Say whether a column is called as one of ours, whoever's reply it tells of: ``outcome``, ``answer_2``, ``error (MODEL)``."""
    return re.fullmatch(rf"(?:{'|'.join(answer_fields(1))})(?:_\d+)?(?: \(.*\))?(?: \d+)?", normalised(header), re.DOTALL) is not None


def field_kind(field: str) -> type:
    """Return the type of what a column of ours holds."""
    return int if field in ("prompt_tokens", "output_tokens") else str


def place_columns(
    fields: Sequence[str], headers: Sequence[str], filled: Sequence[bool], served_name: str, overwrite: bool
) -> list[OutputColumn]:
    """Decide where each field goes.

    A column that the source already has under that name is filled in place if all its cells are empty or ``overwrite`` is given;
    otherwise it stays as it is and ours is called ``answer (SERVED NAME)``. ``filled`` says of each column whether it holds anything.
    """
    names = [normalised(header) for header in headers]
    columns: list[OutputColumn] = []
    for field in fields:
        header, number = field, 1
        while normalised(header) in names:
            place = names.index(normalised(header))
            if overwrite or not filled[place]:
                break
            number += 1
            header = f"{field} ({served_name})" if number == 2 else f"{field} ({served_name}) {number - 1}"
        taken = normalised(header) in names
        columns.append(
            OutputColumn(
                field, headers[names.index(normalised(header))] if taken else header, names.index(normalised(header)) if taken else None
            )
        )
    return columns


def distinct_names(headers: Sequence[str]) -> list[str]:
    """Return the headers as names of which no two are equal and none is empty, as formats want them that know columns by name.

    A column without a header is called by its number, ``column 3``; the second of a name ``memo`` is ``memo (2)``.
    """
    names: dict[str, None] = {}
    given = set(headers)
    for number, header in enumerate(headers, start=1):
        base = header or f"column {number}"
        candidates = chain([base], (f"{base} ({more})" for more in count(2)))
        names[next(name for name in candidates if name not in names and (name == header or name not in given))] = None
    return list(names)
