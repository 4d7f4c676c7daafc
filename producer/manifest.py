"""What a run is, and what it amounts to so far."""

from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from workers.contract.messages import BlankLines, Outcome, ReplyFormat, Sampling

from .steering import Steering
from .workbook.as_delimited import CsvStyle


class Manifest(BaseModel):
    """What a run is, and how its workbook is made."""

    run_id: str
    served_name: str
    adapter: str | None = None
    sampling: Sampling
    system_prompt: str
    #: Where the workbook was when the run began.
    source_path: str
    sheet: str
    question_column: str
    #: The row of the source that holds the header, from 1; None where it is found.
    header_row: int | None = None
    steering: Steering = Steering()
    #: Data rows of the source.
    rows: int
    created_at: str
    kotae_version: str
    #: The model as it was given on the command line; of a local one also its engine, and where its adapter is.
    model: str = ""
    engine: str = ""
    adapter_path: str | None = None
    engine_args: dict[str, Any] = Field(default_factory=dict)
    #: The queue of the broker that this run keeps to, and those on which rows of it may still lie.
    queue: str | None = None
    former_queues: tuple[str, ...] = ()
    #: Whether the answers come from a server and workers that lived only for the command.
    local: bool = False
    #: The generation in which rows are asked now.
    generation: int = 0
    #: What was asked anew by ``retry``, a line each time.
    retries: tuple[str, ...] = ()
    # What may change from one command to the next without making another run.
    reply_format: ReplyFormat = ReplyFormat.REASONING_ANSWER
    blank_lines: BlankLines = BlankLines.COLLAPSE
    limit: int | None = None
    overwrite: bool = False
    keep_format: bool = False
    csv: CsvStyle = CsvStyle.SAFE
    row_timeout: float = 1800.0
    #: Whether workers take its rows before those of runs without.
    priority: bool = False
    #: Most rows that Redis holds at a time.
    window: int = 20_000

    @property
    def asked_rows(self) -> int:
        """Return how many rows, from the first on, this command is about."""
        return self.rows if self.limit is None else min(self.limit, self.rows)


class Reopened(NamedTuple):
    """How a row that is asked anew differs from its first time."""

    #: Mixed into the seed of the row; 0 leaves it as it was.
    reseed: int
    #: In place of the run's temperature.
    temperature: float | None


class Tally(NamedTuple):
    """What a run amounts to so far, over its first ``asked_rows`` rows."""

    rows: int
    by_outcome: dict[Outcome, int]
    prompt_tokens: int
    output_tokens: int

    @property
    def stored(self) -> int:
        """Return how many rows are settled."""
        return sum(self.by_outcome.values())

    @property
    def asked(self) -> int:
        """Return how many settled rows hold a question."""
        return self.stored - self.by_outcome.get(Outcome.SKIPPED, 0)

    @property
    def answered(self) -> int:
        """Return how many replies keep the format: the yield, as a number of rows."""
        return self.by_outcome.get(Outcome.ANSWERED, 0)


class Spent(NamedTuple):
    """What the rows that workers answered for a run have cost."""

    rows: int
    gpu_seconds: float


class Recent(NamedTuple):
    """What was stored of a run lately: since when, in ISO 8601 (None if nothing was), and how much after that first transaction."""

    since: str | None
    rows: int
    tokens: int
