"""Results come home: from Redis into the run store, and only then out of Redis."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from itertools import islice
from typing import cast

from pydantic import ValidationError

from workers.contract import broker
from workers.contract.errors import BrokerFull
from workers.contract.messages import Answer, Outcome

from .runs import RunStore
from .transport import Transport

#: Keys per MGET: 43,000 results a second, and misses cost next to nothing.
_BATCH = 1000
_FINAL = {"SUCCESS", "FAILURE", "REVOKED"}


def collect(transport: Transport, store: RunStore, waiting: Collection[str], key_of: Callable[[int], str]) -> list[Answer]:
    """Fetch the results among the ``waiting`` task ids that are there, store them, then remove them. Return the answers.

    ``key_of`` names the question of a row, as ``RunStore.store`` wants it.

    The bit that says "stored" is set in the transaction that removes the result, after the store's own commit: at every instant
    a worker that gets the row again finds either of them.
    """
    collected: list[Answer] = []
    ids = iter(waiting)
    while batch := list(islice(ids, _BATCH)):
        with broker.explaining(transport.settings):
            values = cast(list[bytes | None], transport.redis.mget([broker.result_key(task_id) for task_id in batch]))
        found = [(task_id, answer) for task_id, value in zip(batch, values, strict=True) if value and (answer := _decode(task_id, value))]
        if not found:
            continue
        answers = [answer for _, answer in found]
        _remember_models(transport, store, answers)
        store.store(answers, key_of)
        _forget_results(transport, [task_id for task_id, _ in found])
        collected += answers
    return collected


def _decode(task_id: str, value: bytes) -> Answer | None:
    meta = json.loads(value)
    if meta["status"] not in _FINAL:
        return None
    if meta["status"] == "SUCCESS":
        try:
            return Answer.model_validate(meta["result"])
        except ValidationError as error:
            reason = f"the worker's answer cannot be understood ({error.error_count()} fields); upgrade producer and workers together"
    else:
        reason = f"Celery says {meta['status']}: {meta.get('result')}"
    run_id, row, generation = broker.parse_task_id(task_id)
    return Answer(run_id=run_id, row=row, generation=generation, outcome=Outcome.FAILED, error=reason)


def _remember_models(transport: Transport, store: RunStore, answers: list[Answer]) -> None:
    for fingerprint in {answer.fingerprint for answer in answers} - {""} - store.models().keys():
        if (identity := transport.identity(fingerprint)) is not None:
            store.store_model(fingerprint, identity)


def _forget_results(transport: Transport, task_ids: list[str]) -> None:
    try:
        _mark_and_remove(transport, task_ids)
    except BrokerFull:  # only removing makes room for marking; whoever gets one of these rows in between answers it again
        with broker.explaining(transport.settings):
            transport.redis.unlink(*map(broker.result_key, task_ids))
        _mark_and_remove(transport, task_ids)


def _mark_and_remove(transport: Transport, task_ids: list[str]) -> None:
    rows_of_runs: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for run_id, row, generation in map(broker.parse_task_id, task_ids):
        rows_of_runs[run_id, generation].append(row)
    with broker.explaining(transport.settings):
        pipe = transport.redis.pipeline(transaction=True)
        for run, rows in rows_of_runs.items():
            for row in rows:
                pipe.setbit(broker.stored_key(*run), row, 1)
            pipe.expire(broker.stored_key(*run), broker.STORED_TTL)
            pipe.hdel(broker.claims_key(*run), *map(str, rows))
            pipe.hdel(broker.deaths_key(*run), *(field for row in rows for field in (str(row), f"{row}:alone")))
        pipe.unlink(*map(broker.result_key, task_ids))
        pipe.execute()
