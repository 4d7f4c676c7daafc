"""What an endpoint charges for the answers of a run: their tokens, at the prices its workers were told."""

from workers.contract.messages import ModelIdentity

from .runs import RunStore

_MILLION = 1_000_000


def price_of(store: RunStore) -> float | None:
    """Return the price of the answers that are stored, in the currency of the prices; None if no model that answered has one.

    What was charged for replies that came to nothing, or were asked anew, is not in it.
    """
    models = store.models()
    priced = [
        price
        for fingerprint, tokens in store.tokens_by_model().items()
        if (model := models.get(fingerprint)) is not None and (price := _price(model, *tokens)) is not None
    ]
    return sum(priced) if priced else None


def _price(model: ModelIdentity, prompt_tokens: int, output_tokens: int) -> float | None:
    given = model.engine_args
    if model.engine != "openai" or not {"price_in", "price_out"} & given.keys():
        return None
    return (prompt_tokens * float(given.get("price_in") or 0) + output_tokens * float(given.get("price_out") or 0)) / _MILLION
