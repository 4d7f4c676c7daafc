"""The options of ``kotae pairs``; light, since the command line's help needs them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from producer.analysis.gold import Match
from workers.contract.messages import ReplyFormat


class By(StrEnum):
    """What decides between two replies."""

    SOURCE = "source"
    BEST = "best"
    GOLD = "gold"
    SCORE = "score"
    JUDGEMENTS = "judgements"


class PairFormat(StrEnum):
    """How prompt and replies are written; TRL calls the second one "standard"."""

    #: Lists of messages: the trainer puts the model's own chat template around them.
    CONVERSATIONAL = "conversational"
    #: Texts as they are: the trainer puts no template around them.
    PLAIN = "plain"


@dataclass(frozen=True)
class PairOptions:
    """Which pairs to make, and how to write them."""

    by: Annotated[
        By | None,
        typer.Option(
            envvar="KOTAE_BY",
            help="What decides: source (the first one's reply over the second's), best (best reply over worst), gold, score, judgements;"
            " by default what the other options are for, or best.",
        ),
    ] = None
    chosen: Annotated[str | None, typer.Option(metavar="SOURCE", help="With --rejected, in place of SOURCES: its replies are chosen.")] = (
        None
    )
    rejected: Annotated[str | None, typer.Option(metavar="SOURCE", help="Its replies are rejected.")] = None
    gold: Annotated[
        str | None, typer.Option(metavar="COLUMN", envvar="KOTAE_GOLD", help="The right answers, a column of the first source.")
    ] = None
    match: Annotated[Match, typer.Option(envvar="KOTAE_MATCH", help="How an answer is held against gold.")] = Match.AUTO
    score: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", envvar="KOTAE_SCORE", help="Scores of the replies; once, or once for each source in their order."),
    ] = None
    margin: Annotated[float, typer.Option(envvar="KOTAE_MARGIN", min=0, help="Scores no further apart than this are a tie.")] = 0.0
    judgements: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="KOTAE_JUDGEMENTS", help="What a page of `kotae compare` exported; it knows its sources by itself."
        ),
    ] = None
    join: Annotated[
        str | None, typer.Option(metavar="COLUMN", envvar="KOTAE_JOIN", help="Join different workbooks by this column, not by rows.")
    ] = None
    sheet: Annotated[str | None, typer.Option(envvar="KOTAE_SHEET", help="The sheet of workbooks, where several have questions.")] = None
    question_column: Annotated[
        str | None, typer.Option(envvar="KOTAE_QUESTION_COLUMN", help="The column of workbooks with the questions.")
    ] = None
    pair_format: Annotated[PairFormat, typer.Option("--format", envvar="KOTAE_PAIR_FORMAT", help="Messages, or plain texts.")] = (
        PairFormat.CONVERSATIONAL
    )
    reply_format: Annotated[
        ReplyFormat | None,
        typer.Option(envvar="KOTAE_REPLY_FORMAT", help="The tags that both replies stand in; by default those of the first run."),
    ] = None
    system_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT|@FILE", envvar="KOTAE_SYSTEM_PROMPT", help="Of the prompts, in place of that of the first run."),
    ] = None
    keep_malformed: Annotated[
        bool, typer.Option("--keep-malformed", envvar="KOTAE_KEEP_MALFORMED", help="Malformed replies may be rejected ones.")
    ] = False
