"""What somebody judged on a page of ``kotae compare``, as the page exports it; the format stands in docs/analysis.md."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from producer.analysis.joining import Joined, digest_of, same_question, shown_digest
from workers.contract.errors import UserError


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class JudgedSource(_Read):
    """A source that was compared; ``run_id`` is None for a column of a workbook."""

    name: str
    run_id: str | None = None


class Judgement(_Read):
    """What was judged of one question."""

    place: int
    question: str
    #: Of the question and the replies that were judged.
    digest: str = ""
    verdict: Literal["better", "tie"] | None
    #: Index of the source that is better than every other one.
    best: int | None = None
    note: str = ""

    def is_of(self, joined: Joined) -> bool:
        """Say whether the replies are still those that were judged."""
        return self.digest in ("", shown_digest(digest_of(joined)))


class _Export(_Read):
    format: Literal["kotae-judgements"]
    version: Literal[1]
    sources: tuple[JudgedSource, ...]
    join: str | None = None
    exported_at: str = ""
    judgements: tuple[Judgement, ...]


class Judgements:
    """The judgements of one file."""

    def __init__(self, path: Path, export: _Export) -> None:
        self.path, self.sources, self.join, self.exported_at = path, export.sources, export.join, export.exported_at
        self._by_place = {one.place: one for one in export.judgements}

    def names(self) -> list[str]:
        """Return what opens the sources that were compared."""
        return [source.run_id or source.name for source in self.sources]

    def of(self, place: int, joined: Joined) -> Judgement | None:
        """Return what was judged of a question. Raises UserError if there is another question in its place by now."""
        judgement = self._by_place.get(place)
        if judgement is not None and not same_question(judgement.question, joined.question):
            raise UserError(
                f"{self.path} holds judgements of other questions: the one at place {place} is not what these sources ask there;"
                " name the sources that were compared, in the same order"
            )
        return judgement


def read_judgements(path: Path) -> Judgements:
    """Read what a page exported. Raises UserError."""
    try:
        export = _Export.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} holds no judgements of kotae compare: {where}: {first['msg']}; export them again") from error
    bad = next((one for one in export.judgements if (one.verdict == "better") != (one.best in range(len(export.sources)))), None)
    if bad is not None:
        raise UserError(f"{path}: the judgement at place {bad.place} names no source as the better one; export them again")
    return Judgements(path, export)
