"""What analysis looks at: the rows of a source and the replies to them, wherever they are kept."""

from typing import NamedTuple

from workers.contract.messages import Outcome


class Reply(NamedTuple):
    """One reply to a question, as it was read."""

    reasoning: str
    answer: str
    outcome: Outcome
    #: The raw reply; empty where only its parts are known (a column of a workbook).
    text: str = ""
    finish_reason: str = ""
    #: None where nobody counted.
    output_tokens: int | None = None


class Row(NamedTuple):
    """One row of a source, and what became of it."""

    row: int
    question: str
    #: None where nothing is known of the row yet: its reply is missing.
    outcome: Outcome | None
    #: One for every sample; empty if the row has none.
    replies: tuple[Reply, ...] = ()
    error: str = ""
    prompt_tokens: int | None = None
    #: From the engine's taking the row to its reply.
    seconds: float | None = None
    #: How often it had been asked anew on purpose; and the fingerprint of the model that answered, of a run's row only.
    generation: int = 0
    fingerprint: str = ""
