"""The card of a data set of pairs: what it holds, how it was made and of what, as the Hugging Face Hub shows it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import producer.workbook.provenance as runs
from producer.analysis.sources import ColumnSource, RunSource
from producer.progress import counted

from .columns import Column
from .dropped import MEANING, Dropped
from .making import Account
from .options import PairFormat

#: The classes of size that the Hub knows, by the first number that is too large for each.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


class Made(NamedTuple):
    """How a data set was made."""

    sources: Sequence[RunSource | ColumnSource]
    rule: str
    #: What the rule leaves open: malformed replies, and how the rows were put together.
    settings: dict[str, str]
    columns: Sequence[Column]
    pair_format: PairFormat
    account: Account


def card(out: Path, made: Made) -> str:
    """Return the card as Markdown below its YAML."""
    account = made.account
    parts = [
        _front_matter(out, made),
        f"# {out.stem}",
        f"{counted(account.pairs, 'preference pair')} for ORPO, DPO and their relatives, made by Kotae of"
        f" {counted(account.questions, 'question')} ({counted(account.rows, 'row')}): a prompt, a reply to learn and one to unlearn.",
        "## How the pairs were chosen",
        f"Rule: {_cell(made.rule)}.",
        _table(["setting", "value"], list(made.settings.items())),
        "## What gave no pair",
        f"Of {counted(account.questions, 'question')}, {account.questions - account.pairs:,} gave none; each is counted once.",
        _table(["reason", "questions", "meaning"], [(reason, f"{account.dropped[reason]:,}", MEANING[reason]) for reason in Dropped]),
        "## Columns",
        f"The {made.pair_format} preference format of TRL. " + _LOADING[made.pair_format],
        _table(["column", "meaning"], [(f"`{column.name}`", column.means) for column in made.columns]),
        "## Where the replies come from",
        *(_source(source) for source in made.sources),
        "## Before it is used",
        "The replies are those of language models, unchecked unless the rule says otherwise. Whether they may be used for training"
        " depends on the licences of the models that wrote them, and on the rights in the questions.",
    ]
    return "\n\n".join(parts) + "\n"


_LOADING = {
    PairFormat.CONVERSATIONAL: "A trainer puts the model's own chat template around the messages.",
    PairFormat.PLAIN: "A trainer puts no chat template around the texts, only the end of the text behind each reply.",
}


def _front_matter(out: Path, made: Made) -> str:
    size = next((name for limit, name in _SIZES if made.account.pairs < limit), "n>10M")
    lines = [
        f"pretty_name: {json.dumps(out.stem, ensure_ascii=False)}",
        f'size_categories:\n- "{size}"',
        "task_categories:\n- text-generation",
        "tags:\n- preference\n- orpo\n- dpo\n- trl\n- kotae",
    ]
    if out.suffix.lower() != ".xlsx":
        path = json.dumps(out.name, ensure_ascii=False)
        lines.append(f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {path}")
    return "\n".join(["---", *lines, "---"])


def _source(source: RunSource | ColumnSource) -> str:
    if isinstance(source, RunSource):
        return f"### Run {source.store.manifest.run_id}\n\n" + _table(["what", "value"], list(runs.provenance(source.store).items()))
    told = {"file and column": source.name, "sheet": source.sheet.name, "rows": source.sheet.height, "column": source.model}
    return f"### {_cell(source.name)}\n\n" + _table(["what", "value"], list(told.items()))


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [headers, ["---"] * len(headers), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Return a value as a cell of a Markdown table: on one line, and nothing in it means anything."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode().replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").replace("\n", "<br>")
