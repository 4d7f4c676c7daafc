"""The canary: a fixed question asked at start. It shows which model answers, and that every adapter is heard."""

from collections.abc import Sequence
from typing import NamedTuple

from workers.contract.errors import UserError
from workers.contract.messages import ChatMessage

QUESTION = (ChatMessage(role="user", content="Which numbers between 20 and 30 are prime? Think first, then answer."),)
#: Tokens of its reply, sampled greedily.
TOKENS = 8
#: Seconds that it may take, with all that an engine makes at its first request.
PATIENCE = 600.0
#: What two readings of the same model may differ by without anything being noisy.
_ROUNDING = 1e-6


class Reading(NamedTuple):
    """What a model makes of the canary."""

    reply: str
    #: Natural logarithms of the probabilities of the question's own tokens: they can be compared whatever the reply is.
    prompt_logprobs: tuple[float, ...]


def check_is_heard(adapter: str, reading: Reading, without: Sequence[Reading]) -> None:
    """Raise UserError if the adapter changes nothing: then the base model would answer under its name, and nobody would notice.

    ``without`` are two or more readings of the base model; what they differ by is the engine's own noise.
    """
    noise = max(_distance(without[0], other) for other in without)
    if min(_distance(reading, other) for other in without) <= 2 * noise + _ROUNDING:
        raise UserError(
            f"adapter {adapter} changes nothing: with it the model is exactly as without it. Its weights are zero, or their names are"
            " those of another model; save it again, or leave it out"
        )


def _distance(one: Reading, other: Reading) -> float:
    return max(abs(a - b) for a, b in zip(one.prompt_logprobs, other.prompt_logprobs, strict=True))
