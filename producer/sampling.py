"""How a run samples, as the command line says it, and how a row of it does, as its cells say it."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from workers.contract.errors import UserError
from workers.contract.messages import Sampling
from workers.contract.replies import layout

from .options import AskOptions

#: Below this no format's tags could close.
_MIN_ENFORCED_TOKENS = 64
#: Fields of Sampling that are options of the same name.
_SAMPLING_OPTIONS = Sampling.model_fields.keys() - {"n", "stop", "enforce_format"}
_TEXTS = TypeAdapter(tuple[str, ...])


class BadValue(ValueError):
    """Raised for a value that a field of Sampling cannot have."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field, self.why = field, why


def make_sampling(options: AskOptions) -> Sampling:
    """Return the sampling of a run. Raises UserError that names the option of the first value that cannot be."""
    enforced = options.reply_format if options.enforce_format else None
    given = {name: getattr(options, name) for name in _SAMPLING_OPTIONS}
    try:
        sampling = Sampling.model_validate(given | {"n": options.samples, "stop": options.stop or (), "enforce_format": enforced})
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        option = {"n": "--samples", "": ""}.get(name, f"--{name}")
        value = f" {first['input']}" if first["loc"] else ""
        raise UserError(f"{option}{value}: {in_words(first)}".strip(": ")) from error
    if options.enforce_format:
        if layout(options.reply_format) is None:
            raise UserError(f"--enforce-format: any reply keeps the format {options.reply_format}; leave the option out")
        if problem := _against_format(sampling):
            field, why = problem
            raise UserError(f"--{field.replace('_', '-')} {why}")
    return sampling


def own_sampling(run: Sampling, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return what the cells of a row say of its sampling, by field; the rest is the ``run``'s. Raises BadValue."""
    given = {field: _stops(text) if field == "stop" else _number(field, text) for field, text in texts.items()}
    try:
        sampling = Sampling.model_validate(run.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        fields = first["loc"][:1] or [field for field in given if field in first["msg"]] or list(given)
        raise BadValue(str(fields[0]), in_words(first)) from error
    if sampling.enforce_format is not None and (problem := _against_format(sampling)):
        raise BadValue(*problem)
    return {field: getattr(sampling, field) for field in given}


def _against_format(sampling: Sampling) -> tuple[str, str] | None:
    """Return the field whose value an enforced format cannot bear, and why."""
    if sampling.max_tokens < _MIN_ENFORCED_TOKENS:
        return "max_tokens", f"must be at least {_MIN_ENFORCED_TOKENS}, so that the tags of --enforce-format can close"
    if sampling.stop:
        return "stop", "would end replies before the tags of --enforce-format are closed; leave the one or the other out"
    if sampling.ignore_eos:
        return "ignore_eos", "would let replies go on behind the tags of --enforce-format; leave the one or the other out"
    return None


def in_words(error: ErrorDetails) -> str:
    """Return what pydantic says of a value, as the rest of a sentence about it."""
    return error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _number(field: str, text: str) -> str:
    """Return a number without its full-width digits. Raises BadValue for one that only programs write: ``1_0``."""
    number = unicodedata.normalize("NFKC", text).strip()
    if "_" in number:
        raise BadValue(field, "is no number")
    return number


def _stops(text: str) -> tuple[str, ...]:
    """Read a JSON list of texts; any other text is one, so that ``[END]`` needs no quotation marks."""
    try:
        return _TEXTS.validate_json(text)
    except ValidationError as error:
        if text.lstrip().startswith('["'):
            raise BadValue("stop", "is no JSON list of texts") from error
        return (text,)
