"""The options that several commands share, as dataclasses whose fields become options of a command."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from workers.contract.errors import UserError
from workers.contract.messages import BlankLines, EngineName, ReplyFormat

from .analysis.gold import Match
from .workbook.as_delimited import CsvStyle

_MOST_ROWS = 1_000_000_000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class AskOptions:
    """What is asked, and how."""

    sheet: Annotated[str | None, typer.Option(envvar="KOTAE_SHEET", help="The sheet with the questions, if there are several.")] = None
    question_column: Annotated[str | None, typer.Option(envvar="KOTAE_QUESTION_COLUMN", help="The column with the questions.")] = None
    header_row: Annotated[
        int | None,
        typer.Option(envvar="KOTAE_HEADER_ROW", min=1, max=_MOST_ROWS, help="The row with the headers, from 1; else it is found."),
    ] = None
    system_prompt: Annotated[
        str | None, typer.Option(envvar="KOTAE_SYSTEM_PROMPT", help="Text, or @FILE; by default the one that goes with the reply format.")
    ] = None
    prompt: Annotated[
        str | None,
        typer.Option(
            envvar="KOTAE_PROMPT",
            help='The question as a text over columns, or @FILE: "{field}: {question}". Write {{ and }} for braces.',
        ),
    ] = None
    messages_column: Annotated[
        str | None,
        typer.Option(
            envvar="KOTAE_MESSAGES_COLUMN",
            help='A column with conversations as JSON, [{"role": "user", "content": "..."}], in place of questions.',
        ),
    ] = None
    system_prompt_column: Annotated[
        str | None, typer.Option(envvar="KOTAE_SYSTEM_PROMPT_COLUMN", help="A column with a system prompt for each row.")
    ] = None
    adapter_column: Annotated[
        str | None, typer.Option(envvar="KOTAE_ADAPTER_COLUMN", help="A column that names an adapter for each row.")
    ] = None
    sampling_column: Annotated[
        list[str] | None,
        typer.Option(
            envvar="KOTAE_SAMPLING_COLUMN",
            metavar="FIELD=COLUMN",
            help="A column with a temperature, max_tokens, seed, ... for each row. Repeatable. Empty cells leave the run's, here as above.",
        ),
    ] = None
    reply_format: Annotated[ReplyFormat, typer.Option(envvar="KOTAE_REPLY_FORMAT", help="How replies are read.")] = (
        ReplyFormat.REASONING_ANSWER
    )
    enforce_format: Annotated[
        bool, typer.Option("--enforce-format", envvar="KOTAE_ENFORCE_FORMAT", help="Hold replies to the format while they are written.")
    ] = False
    blank_lines: Annotated[
        BlankLines,
        typer.Option(envvar="KOTAE_BLANK_LINES", help="Doubled line breaks in replies: collapse, as the reference does, or keep."),
    ] = BlankLines.COLLAPSE
    temperature: Annotated[float, typer.Option(envvar="KOTAE_TEMPERATURE")] = 0.5
    top_p: Annotated[float, typer.Option(envvar="KOTAE_TOP_P")] = 0.95
    top_k: Annotated[int, typer.Option(envvar="KOTAE_TOP_K", help="0: all tokens.")] = 0
    min_p: Annotated[float, typer.Option(envvar="KOTAE_MIN_P")] = 0.0
    max_tokens: Annotated[int, typer.Option(envvar="KOTAE_MAX_TOKENS", help="Longest reply, in tokens.")] = 2048
    min_tokens: Annotated[int, typer.Option(envvar="KOTAE_MIN_TOKENS", help="Shortest reply, in tokens.")] = 0
    samples: Annotated[int, typer.Option(envvar="KOTAE_SAMPLES", help="Replies per question.")] = 1
    seed: Annotated[int, typer.Option(envvar="KOTAE_SEED", help="Each row has a seed of its own, made from this one.")] = 0
    stop: Annotated[list[str] | None, typer.Option(envvar="KOTAE_STOP", help="Text at which a reply ends. Repeatable.")] = None
    repetition_penalty: Annotated[float, typer.Option(envvar="KOTAE_REPETITION_PENALTY")] = 1.0
    presence_penalty: Annotated[float, typer.Option(envvar="KOTAE_PRESENCE_PENALTY")] = 0.0
    frequency_penalty: Annotated[float, typer.Option(envvar="KOTAE_FREQUENCY_PENALTY")] = 0.0
    ignore_eos: Annotated[
        bool,
        typer.Option("--ignore-eos", envvar="KOTAE_IGNORE_EOS", help="Write max-tokens tokens whatever the model says; for measuring."),
    ] = False
    row_timeout: Annotated[
        str, typer.Option(envvar="KOTAE_ROW_TIMEOUT", help="Longest time of a row, from when the engine takes it: 90s, 30m, 2h.")
    ] = "30m"
    limit: Annotated[int | None, typer.Option(envvar="KOTAE_LIMIT", help="Ask the first N rows only.")] = None
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", envvar="KOTAE_OVERWRITE", help="Replace filled columns of the source that have our columns' names."),
    ] = False
    keep_format: Annotated[
        bool,
        typer.Option(
            "--keep-format", envvar="KOTAE_KEEP_FORMAT", help="Write the answers into a copy of the workbook that keeps all else as it is."
        ),
    ] = False
    csv: Annotated[
        CsvStyle,
        typer.Option(envvar="KOTAE_CSV", help="How .csv and .tsv are written: safe for Excel (no text is a formula), or raw."),
    ] = CsvStyle.SAFE
    fresh: Annotated[bool, typer.Option("--fresh", envvar="KOTAE_FRESH", help="Forget what this run has answered and ask anew.")] = False
    no_reuse: Annotated[
        bool, typer.Option("--no-reuse", envvar="KOTAE_NO_REUSE", help="Ask also what an earlier run of this home has answered already.")
    ] = False
    priority: Annotated[
        bool,
        typer.Option("--priority", envvar="KOTAE_PRIORITY", help="Workers take the rows of this run before those of runs without."),
    ] = False
    window: Annotated[
        int,
        typer.Option("--window", "--max-queued", envvar="KOTAE_WINDOW", min=1, help="Most rows of this run that Redis holds at a time."),
    ] = 20_000


#: An option of the commands that wait for a run and write its workbook.
PartialEvery = Annotated[
    str | None, typer.Option(envvar="KOTAE_PARTIAL_EVERY", help="Write what there is by now this often, until all is there: 30s, 5m.")
]


@dataclass(frozen=True)
class LocalOptions:
    """What local workers load."""

    engine: Annotated[
        EngineName,
        typer.Option(envvar="KOTAE_ENGINE", help="The engine of local workers: vllm, unsloth, openai (an endpoint), or echo."),
    ] = "vllm"
    base_url: Annotated[
        str, typer.Option(envvar="KOTAE_BASE_URL", help="With --engine openai: the endpoint, https://host/v1; the key in OPENAI_API_KEY.")
    ] = ""
    engine_arg: Annotated[
        list[str] | None, typer.Option(envvar="KOTAE_ENGINE_ARG", help="An argument of the local engine: KEY=VALUE. Repeatable.")
    ] = None
    ledger: Annotated[
        Path | None, typer.Option(envvar="KOTAE_LEDGER", help="File in which local engines write every row they start and end.")
    ] = None


@dataclass(frozen=True)
class DeskOptions:
    """Where runs are kept and who reads the output."""

    home: Annotated[Path, typer.Option(envvar="KOTAE_HOME", help="Where runs are kept.")] = Path(".kotae")
    as_json: Annotated[
        bool, typer.Option("--json", envvar="KOTAE_JSON", help="Print the result as one JSON object on standard output.")
    ] = False


@dataclass(frozen=True)
class MeasuringOptions:
    """What is measured of replies, and against what."""

    by: Annotated[str | None, typer.Option(metavar="COLUMN", envvar="KOTAE_BY", help="Also apart for each value of this column.")] = None
    gold: Annotated[
        str | None, typer.Option(metavar="COLUMN", envvar="KOTAE_GOLD", help="The column with the right answers; gives the accuracy.")
    ] = None
    match: Annotated[
        Match, typer.Option(envvar="KOTAE_MATCH", help="How answers are held against gold; auto: by what each gold answer looks like.")
    ] = Match.AUTO
    sheet: Annotated[str | None, typer.Option(envvar="KOTAE_SHEET", help="Of a workbook the sheet with the questions.")] = None
    question_column: Annotated[
        str | None, typer.Option(envvar="KOTAE_QUESTION_COLUMN", help="Of a workbook the column with the questions.")
    ] = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a Typer command take dataclasses: each of their fields becomes an option of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if (group := groups.get(parameter.name)) is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
            continue
        options = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=options[field.name])
            for field in fields(group)
        ]

    @functools.wraps(command)
    def spread_out(**given: Any) -> None:
        gathered = {name: group(**{field.name: given.pop(field.name) for field in fields(group)}) for name, group in groups.items()}
        command(**given, **gathered)

    spread_out.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # how Typer sees the options
    del spread_out.__wrapped__  # or Typer looks at the original
    return spread_out


def text_or_file(option: str, text: str) -> str:
    """Return a text, or for ``@FILE`` what stands in that file. Raises UserError."""
    if not text.startswith("@"):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UserError(f"{option}: the text is not UTF-8; put it into a file and give @FILE")
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option} {text}: the file cannot be read as UTF-8 text ({type(error).__name__})") from error


def seconds(option: str, text: str) -> float:
    """Return a duration such as ``90s``, ``30m``, ``1.5h`` or ``500ms`` in seconds; a bare number is seconds. Raises UserError."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip()[len(number) :] or "s"
    try:
        value = float(number) * _UNITS[unit]
    except (ValueError, KeyError) as error:
        raise UserError(f"{option} {text}: write a time such as 90s, 30m or 2h") from error
    if not 0 < value < float("inf"):
        raise UserError(f"{option} {text}: must be a time of more than 0")
    return value
