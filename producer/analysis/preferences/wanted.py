"""What was asked of ``kotae pairs``, and whether it makes sense."""

from collections.abc import Sequence
from math import isfinite

from workers.contract.errors import UserError

from .judgements import Judgements
from .options import By, PairOptions


def rule_of(wanted: PairOptions, sources: Sequence[str]) -> By:
    """Return the rule: the one that is named, or the one that the other options are for. Raises UserError."""
    if (wanted.chosen is None) != (wanted.rejected is None):
        raise UserError("--chosen and --rejected go together: name a run, or FILE:COLUMN, for each")
    if wanted.chosen is not None and sources:
        raise UserError(f"--chosen and --rejected name the sources; leave out {' '.join(sources)}")
    given = {
        By.SOURCE: wanted.chosen is not None,
        By.JUDGEMENTS: wanted.judgements is not None,
        By.SCORE: bool(wanted.score),
        By.GOLD: wanted.gold is not None,
    }
    by = wanted.by or next((rule for rule, there in given.items() if there), By.BEST)
    needs = {By.JUDGEMENTS: "--judgements FILE", By.SCORE: "--score COLUMN", By.GOLD: "--gold COLUMN"}
    if by in needs and not given[by]:
        raise UserError(f"--by {by} needs {needs[by]}")
    allowed = {by, By.GOLD} if by is By.BEST else {by}
    if by in (By.SCORE, By.JUDGEMENTS, By.GOLD, By.BEST) and given[By.SOURCE]:
        raise UserError(f"--chosen and --rejected are a rule of their own; with --by {by} name the sources without them")
    for rule, there in given.items():
        if there and rule not in allowed:
            raise UserError(f"{needs[rule]} is of no use with --by {by}; leave one of them out")
    if not isfinite(wanted.margin):
        raise UserError("--margin takes a number")
    if wanted.margin and by is not By.SCORE:
        raise UserError("--margin goes with --score COLUMN")
    return by


def named(wanted: PairOptions, sources: Sequence[str], judgements: Judgements | None) -> tuple[list[str], str | None]:
    """Return what opens the sources, and the column that joins them; judgements know both. Raises UserError."""
    names = [wanted.chosen, wanted.rejected] if wanted.chosen and wanted.rejected else list(sources)
    if judgements is None:
        return names, wanted.join
    if names and len(names) != len(judgements.sources):
        judged = ", ".join(source.name for source in judgements.sources)
        raise UserError(f"{judgements.path} judges {len(judgements.sources)} sources ({judged}): name as many, in this order, or none")
    if wanted.join is not None and wanted.join != judgements.join:
        raise UserError(f"{judgements.path} was made with --join {judgements.join or '(none)'}; leave out --join {wanted.join}")
    return names or judgements.names(), judgements.join


def check_number(by: By, names: Sequence[str]) -> None:
    """Check that there are as many sources as a rule takes. Raises UserError."""
    if not names:
        raise UserError("name the sources: runs, or columns as FILE:COLUMN; or --chosen A --rejected B")
    if by is By.SOURCE and len(names) != 2:
        raise UserError(f"--by source takes two sources, the chosen one first; {len(names)} are named")
