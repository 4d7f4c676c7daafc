"""What is compared: sources, what they are called beside each other, and what is told of them."""

import datetime
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .sources import ColumnSource, RunSource

#: What an outcome is called where there is no reply to have one.
MISSING = "missing"


class Comparison(NamedTuple):
    """What is compared."""

    sources: Sequence[RunSource | ColumnSource]
    #: What each source is called where they stand side by side; no two are equal.
    labels: Sequence[str]
    #: The column the rows are joined by; None if row by row.
    column: str | None
    created: datetime.datetime

    def about(self, side: int) -> dict[str, str | None]:
        """Return what is told of a source."""
        source = self.sources[side]
        run_id = source.store.manifest.run_id if isinstance(source, RunSource) else None
        return {"name": source.name, "label": self.labels[side], "model": source.model, "run_id": run_id}

    def reply_columns(self) -> frozenset[int]:
        """Return the columns of the first source that hold replies which are compared, so that nobody has to see them twice."""
        headers = self.sources[0].sheet.headers
        columns = (one for one in self.sources if isinstance(one, ColumnSource) and one.sheet.headers == headers)
        return frozenset(index for one in columns for index in one.columns())


def labels_of(sources: Sequence[RunSource | ColumnSource]) -> list[str]:
    """Call every source by its model, or by what it was called on the command line where two have the same, or by a number too."""
    models = [_model(source) for source in sources]
    labels: list[str] = []
    for source, model in zip(sources, models, strict=True):
        label = model if models.count(model) == 1 and model else source.name
        same = sum(earlier == label or earlier.startswith(f"{label} (") for earlier in labels)
        labels.append(f"{label} ({same + 1})" if label in labels else label)
    return labels


def outcome_text(row: Any) -> str:
    """Return the outcome of a side as it is shown."""
    return MISSING if row is None or row.outcome is None else str(row.outcome)


def _model(source: RunSource | ColumnSource) -> str:
    """Return who answered: the column ``answer (MODEL)`` says it in its header."""
    model = "".join(character for character in " ".join(source.model.split()) if character.isprintable())  # a header holds anything
    matched = re.fullmatch(r"answer(?:_\d+)? \((.+)\)", model)
    return matched[1].strip() if matched and isinstance(source, ColumnSource) else model
