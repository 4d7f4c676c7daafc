"""The Celery shell: decode a question, have it answered, return the answer."""

import logging
import signal
import sys
import threading
import traceback
import warnings
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

import redis
from celery import Celery, Task, signals, states
from celery.exceptions import CPendingDeprecationWarning, Ignore, Reject
from pydantic import ValidationError

from . import metrics
from .answering import answer_question
from .attempts import Standing
from .cohorts import CONDEMNED, cohort_size
from .contract import broker
from .contract.command_line import complain
from .contract.errors import EngineDead, UserError
from .contract.messages import Answer, Outcome, Question
from .contract.processes import end_with_parent
from .contract.results import PatientRedisBackend
from .lifecycle import EXIT_NO_ENGINE, EXIT_USER_ERROR, Row, WorkerLife
from .outbox import Outbox
from .settings import worker_settings
from .transport import Hook

log = logging.getLogger(__name__)

app = Celery("kotae")


def _configuration() -> dict[str, Any]:
    try:
        settings = worker_settings()
        return broker.worker_config(broker.broker_settings(), settings.served_name, events=settings.events)
    except UserError as error:  # here, since Celery and Flower ask for it in many places
        complain("kotae-worker", str(error))
        raise SystemExit(EXIT_USER_ERROR) from error


app.add_defaults(_configuration)

_life: WorkerLife | None = None
_outbox: Outbox | None = None
# Celery logs a traceback for each row that is handed back.
logging.getLogger("celery.app.trace").addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], Reject)))
# A setting that is as it shall be (contract/broker.py) is no news at every loss of a connection.
warnings.filterwarnings("ignore", r"\s*In Celery 5.1 we introduced", CPendingDeprecationWarning)
#: Seconds between two looks at a row that somebody else is at.
_LOOK_AGAIN = 0.5


@app.task(name=broker.ANSWER_TASK, bind=True)
def answer(self: "Task[..., Answer]", payload: dict[str, Any]) -> Answer:
    """Decode, answer, encode; every failure of the row is a value."""
    assert _life is not None, "celeryd_init loads the engine before the first task"
    task_id = str(self.request.id)
    row = Row(threading.get_ident())
    if again := (self.request.delivery_info or {}).get("redelivered"):
        metrics.count_redelivery()
    standing = _wait_for_claim(_life, task_id, row)
    if standing.alone >= CONDEMNED:
        row.future = Future()
        row.future.set_result(_failed(_life, task_id, "the engine died whenever it had this row, even with no other row beside it"))
        return _awaited(_life, task_id, row)
    size = cohort_size(standing.deaths)
    waits = not _life.cohorts.is_open(size)
    if waits:
        with suppress(redis.RedisError):
            _life.attempts.wait(task_id)
    with _life.cohorts.join(size, _life.leaving.is_set) as entered:
        row.begun = entered or not waits
        if not entered:
            raise _handed_back(_life, task_id, row)
        row.alone = size == 1
        if waits:
            with suppress(redis.RedisError):
                _life.attempts.begin(task_id, alone=row.alone)
        if not again and (sent := (self.request.properties or {}).get("timestamp")) is not None:
            metrics.count_wait(sent)
        row.future = _life.submit(_answer(_life, task_id, payload))
        return _awaited(_life, task_id, row)


def _wait_for_claim(life: WorkerLife, task_id: str, row: Row) -> Standing:
    """Wait until the row is ours. Celery neither refuses nor merges a task id that is sent twice, and sends one again when a
    connection breaks, so somebody may be at it: here, or in a worker that lives. Raises Ignore once nothing is left to do.
    """
    while not life.leaving.is_set():
        with suppress(redis.RedisError):  # full, or away for long: so are the results, and the row is kept alive here meanwhile
            if life.rows.setdefault(task_id, row) is row:
                standing = life.early_claims.take(task_id) or life.attempts.claim(task_id)
                if standing.settled:
                    raise Ignore
                if standing.holder == life.me:
                    return standing
                if life.attempts.is_gone(life.settings.served_name, standing.holder):
                    life.attempts.release(task_id, standing.holder)
                    continue
        life.leaving.wait(_LOOK_AGAIN)
    if life.early_claims.take(task_id) is not None:
        with suppress(redis.RedisError):
            life.attempts.give_back(task_id, begun=True, alone=False)
    raise Reject("this worker stops before the row is begun", requeue=True)


def _awaited(life: WorkerLife, task_id: str, row: Row) -> Answer:
    """Wait until the row's answer is stored."""
    # Whatever ends a row without an answer is raised "from None": Celery formats the traceback of each, and with that of an engine's
    # death behind it hundreds of them outlast the process.
    assert row.future is not None
    assert _outbox is not None
    try:
        return _outbox.deliver(task_id, row.future).result()
    except EngineDead as error:
        life.engine_died(str(error))
        raise _handed_back(life, task_id, row) from None
    except CancelledError:
        if not row.superseded:
            raise _handed_back(life, task_id, row) from None
        with suppress(redis.RedisError):
            life.attempts.end(task_id)
        raise Ignore from None


def _handed_back(life: WorkerLife, task_id: str, row: Row) -> Reject:
    """Let go of a row that is not done, and return the exception that puts it back on its queue."""
    with suppress(redis.RedisError):
        if row.begun and life.engine_is_dead:
            life.attempts.blame(task_id, alone=row.alone)
        else:
            life.attempts.give_back(task_id, begun=row.begun, alone=row.alone)
    return Reject("this worker stops before the row is done", requeue=True)


async def _answer(life: WorkerLife, task_id: str, payload: dict[str, Any]) -> Answer:
    try:
        question = Question.model_validate(payload)
        with life.meter.row(question.run_id) as gpu_seconds:
            answered = await answer_question(question, life.engine)
            life.meter.answered(sum(completion.output_tokens for completion in answered.completions))
            return answered.model_copy(update=life.stamp | {"gpu_seconds": round(gpu_seconds(), 4)})
    except EngineDead:
        raise
    except ValidationError as error:
        reason = f"this worker does not understand the question ({error.error_count()} fields); upgrade producer and workers together"
    except Exception as error:  # a row must never leave as an exception: Celery would replace it by its own record
        log.exception("row %s failed", task_id)
        what = " ".join(str(error).split())
        reason = f"something in the worker went wrong that nobody foresaw ({type(error).__name__}: {what}); its log has more"
    return _failed(life, task_id, reason)


def _failed(life: WorkerLife, task_id: str, reason: str) -> Answer:
    run_id, row, generation = broker.parse_task_id(task_id)
    return Answer(run_id=run_id, row=row, generation=generation, outcome=Outcome.FAILED, error=reason, **life.stamp)


@signals.task_postrun.connect
def _row_is_done(task_id: str, state: str, retval: Any, **_: Any) -> None:
    """Forget a row after its result is stored. Its claim stays until the collector has the result, so no copy of it is begun."""
    if _life is None or (row := _life.rows.get(task_id)) is None or row.thread != threading.get_ident():
        return
    del _life.rows[task_id]
    if state == states.SUCCESS:
        _life.done.append(task_id)
        metrics.count_row(retval)


@signals.celeryd_init.connect
def _load_engine(sender: str, conf: Any, **_: Any) -> None:
    """Load the engine before Celery connects, so that no row is taken that nobody can answer."""
    global _life, _outbox
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # until rows are taken
    try:
        if not isinstance(app.backend, PatientRedisBackend):
            raise UserError("results belong into the broker's Redis: unset CELERY_RESULT_BACKEND, and give no --result-backend")
        _life = WorkerLife(worker_settings(), broker.broker_settings())
        _outbox = Outbox(app.backend, _life.is_full, _life.engine_died)
        _life.start(sender)
    except UserError as error:
        complain("kotae-worker", str(error))
        raise SystemExit(EXIT_USER_ERROR) from error
    except EngineDead as error:
        print(f"kotae-worker: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_NO_ENGINE) from error
    except Exception as error:  # Celery would log it and go on without an engine
        traceback.print_exc()
        print(f"kotae-worker: the engine could not start: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_NO_ENGINE) from error
    conf.worker_concurrency = _life.max_in_flight
    conf.broker_transport = "workers.transport:Transport"  # here, not in the configuration: Flower reads that too
    hooks = {"wanted_rows": Hook(_life.wanted_rows), "taken_rows": Hook(_life.early_claims.claim)}
    order = {"queue_order_strategy": "workers.transport:FirstThenInTurn"}
    conf.broker_transport_options = conf.broker_transport_options | hooks | order


@signals.worker_ready.connect
def _rows_are_taken(sender: Any, **_: Any) -> None:
    assert _life is not None
    _life.ready(sender)
    # Celery's own handlers hold back all acknowledgements until the last row is done, and the threads pool never gives one up.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _told_to_stop)


def _told_to_stop(number: int, _: Any) -> None:
    """Give running rows ``drain_seconds``; a second signal, or SIGQUIT, none."""
    assert _life is not None
    again = number == signal.SIGQUIT or _life.leaving.is_set()
    _life.leave(0, 0.0 if again else _life.settings.drain_seconds)


@signals.worker_shutdown.connect
def _goodbye(**_: Any) -> None:
    if _life is not None:
        _life.stop()
