"""Which columns steer the rows of a run: what is asked of whom, and how."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from workers.contract.errors import UserError
from workers.contract.messages import Sampling

from .options import AskOptions, text_or_file
from .template import parse_template
from .workbook.columns import QUESTION_HEADERS, normalised

#: What no column can say: how many answers a row has are columns of the output, and how replies are read is the run's.
_OF_THE_RUN = {"n": "each sample has columns of its own for all rows (--samples)", "enforce_format": "it goes with --reply-format"}
SAMPLING_FIELDS = tuple(field for field in Sampling.model_fields if field not in _OF_THE_RUN)


class Steering(BaseModel):
    """The columns that steer rows, by their headers; kept in the manifest, since whoever goes on with a run reads them again."""

    model_config = ConfigDict(frozen=True)

    #: The template that makes the question; see ``template.py``.
    prompt: str | None = None
    messages_column: str | None = None
    system_prompt_column: str | None = None
    adapter_column: str | None = None
    #: Field of Sampling -> column.
    sampling_columns: dict[str, str] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != Steering()

    @property
    def leading_column(self) -> str | None:
        """Return a column that the sheet must have although nobody named it as that of the questions."""
        if self.messages_column is not None or self.prompt is None:
            return self.messages_column
        names = parse_template(self.prompt).names
        return next((name for name in names if normalised(name) in QUESTION_HEADERS), names[0])

    @property
    def columns(self) -> list[str]:
        """Return the names of all columns that steer."""
        named = [self.messages_column, self.system_prompt_column, self.adapter_column, *self.sampling_columns.values()]
        holes = parse_template(self.prompt).names if self.prompt is not None else ()
        return [*holes, *(name for name in named if name is not None)]

    def told(self) -> dict[str, Any]:
        """Return what steers, as the sheet Run tells it; what does not is None or empty."""
        return {
            "prompt template": self.prompt,
            "messages column": self.messages_column,
            "system prompt column": self.system_prompt_column,
            "adapter column": self.adapter_column,
            "sampling columns": self.sampling_columns,
        }


def make_steering(options: AskOptions) -> Steering:
    """Return which columns steer. Raises UserError for a template, or a field, that cannot be."""
    prompt = text_or_file("--prompt", options.prompt) if options.prompt is not None else None
    if prompt is not None:
        parse_template(prompt)
    return Steering(
        prompt=prompt,
        messages_column=options.messages_column,
        system_prompt_column=options.system_prompt_column,
        adapter_column=options.adapter_column,
        sampling_columns=_sampling_columns(options.sampling_column or ()),
    )


def _sampling_columns(given: Iterable[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in given:
        name, _, column = pair.partition("=")
        field = name.strip().replace("-", "_")
        if field in _OF_THE_RUN:
            raise UserError(f"--sampling-column {pair}: {field} is the run's, not a row's: {_OF_THE_RUN[field]}")
        if field not in SAMPLING_FIELDS:
            raise UserError(f"--sampling-column {pair}: write FIELD=COLUMN; the fields are: {', '.join(SAMPLING_FIELDS)}")
        if field in columns:
            raise UserError(f"--sampling-column {pair}: {field} has the column {columns[field]!r} already")
        columns[field] = column.strip() or field
    return columns
