"""``kotae pairs``: from what was asked for to a data set of pairs with its card."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from producer.analysis.sources import ColumnSource, RunSource, open_source
from producer.desk import Desk
from producer.manage import refuse_to_overwrite_the_source
from producer.options import text_or_file
from producer.progress import counted
from producer.workbook.cells import Cell
from workers.contract.errors import UserError
from workers.contract.messages import ReplyFormat

from .candidates import Reader
from .card import Made, card
from .choosing import choose_rule
from .columns import Columns
from .dropped import Dropped
from .judgements import read_judgements
from .making import Account, Maker, Pair, make_pairs
from .options import By, PairOptions
from .prompts import Prompts
from .wanted import check_number, named, rule_of
from .writing import card_path, check_pairs_writable, write_card, write_pairs


def pairs(given: Sequence[str], wanted: PairOptions, out: Path, desk: Desk) -> int:
    """Make pairs, write them with their card, and say how many there are and why not more. Raises UserError."""
    by = rule_of(wanted, given)
    judgements = read_judgements(wanted.judgements) if wanted.judgements is not None else None
    names, join = named(wanted, given, judgements)
    check_number(by, names)
    check_pairs_writable(out)
    system_prompt = None if wanted.system_prompt is None else text_or_file("--system-prompt", wanted.system_prompt)
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(name, desk.home, wanted.sheet, wanted.question_column)) for name in names]
        for source in sources:
            _refuse_to_overwrite(source, out)
        tags = _tags(sources, wanted.reply_format)
        rule = choose_rule(by, sources, wanted, judgements)
        prompts = Prompts(sources, tags, system_prompt)
        columns = Columns(sources, wanted.pair_format, keys=join is not None, scores=by is By.SCORE)
        reader = Reader([source.reply_format for source in sources], tags, wanted.keep_malformed)
        fits = columns.fits_a_cell if out.suffix.lower() == ".xlsx" else lambda _: True
        account = Account()
        found = make_pairs(sources, join, Maker(reader, prompts, rule, fits), account)
        for notice in prompts.notices():
            desk.say(f"note: {notice}")
        write_pairs(out, columns.all, _cells(columns, found, account), lambda: {"rule": rule.says} | account.told())
        settings = {
            "replies": f"in the tags of {tags}" if tags is not ReplyFormat.PLAIN else "without reasoning",
            "malformed replies": "kept, to be rejected" if wanted.keep_malformed else "left out",
            "rows put together": f"by column {join!r}" if join else "by their places, with equal questions",
        }
        write_card(out, card(out, Made(sources, rule.says, settings, columns.all, wanted.pair_format, account)))
    _say(account, rule.says, out, desk)
    return 0


def _tags(sources: Sequence[RunSource | ColumnSource], given: ReplyFormat | None) -> ReplyFormat:
    """Return the format to write replies in: that of the first run; of columns the reference's, if any has a reasoning at all."""
    if given is not None:
        return given
    run = next((source for source in sources if isinstance(source, RunSource)), None)
    if run is not None:
        return run.reply_format
    reasons = any(reply.reasoning.strip() for source in sources for row in source.rows() for reply in row.replies)
    return ReplyFormat.REASONING_ANSWER if reasons else ReplyFormat.PLAIN


def _refuse_to_overwrite(source: RunSource | ColumnSource, out: Path) -> None:
    path = Path(source.store.manifest.source_path) if isinstance(source, RunSource) else source.path
    for written in (out, card_path(out)):
        refuse_to_overwrite_the_source(path, written)


def _cells(columns: Columns, found: Iterator[Pair], account: Account) -> Iterator[Sequence[Cell]]:
    for pair in found:
        yield columns.cells(pair)
    if not account.pairs:
        hint = "; --reply-format plain writes answers alone" if account.dropped[Dropped.NO_REASONING] else ""
        if account.dropped[Dropped.MISSING] == account.rows:
            hint = "; a pair takes two replies to a question: name a second source, or a run with --samples"
        raise UserError(f"no pair is left of {counted(account.questions, 'question')}: {account.reasons() or 'there is none'}{hint}")


def _say(account: Account, rule: str, out: Path, desk: Desk) -> None:
    rows = "" if account.rows == account.questions else f" ({counted(account.rows, 'row')})"
    desk.say(f"{rule}")
    desk.say(f"{counted(account.pairs, 'pair')} of {counted(account.questions, 'question')}{rows}")
    if reasons := account.reasons():
        desk.say(f"no pair from {account.questions - account.pairs:,} of {account.questions:,}: {reasons}")
    desk.say(f"data set: {out}\ncard: {card_path(out)}")
    desk.tell({"rule": rule} | account.told() | {"output": str(out), "card": str(card_path(out))})
