"""The Celery shell: decode a question, have it answered, return the answer."""

import logging
import signal
import sys
import threading
import traceback
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import redis
from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject
from pydantic import ValidationError

from .answering import answer_question
from .contract import broker
from .contract.errors import EngineDead, UserError
from .contract.messages import Answer, Outcome, Question
from .contract.processes import end_with_parent
from .lifecycle import EXIT_NO_ENGINE, EXIT_USER_ERROR, WorkerLife
from .settings import worker_settings

log = logging.getLogger(__name__)

app = Celery("kotae")
app.add_defaults(lambda: broker.worker_config(broker.broker_settings(), worker_settings().served_name))

_life: WorkerLife | None = None
#: Task id -> the answer being made of it: Celery neither refuses nor merges a task id that is sent twice.
_in_flight: dict[str, "Future[Answer]"] = {}
_in_flight_lock = threading.Lock()


@app.task(name=broker.ANSWER_TASK, bind=True)
def answer(self: "Task[..., Answer]", payload: dict[str, Any]) -> Answer:
    """Decode, answer, encode; every failure of the row is a value."""
    assert _life is not None, "celeryd_init loads the engine before the first task"
    task_id = str(self.request.id)
    if _is_settled(_life, task_id):
        raise Ignore
    with _in_flight_lock:
        running = _in_flight.get(task_id)
        if running is None:
            _in_flight[task_id] = mine = _life.submit(_answer(_life, task_id, payload))
    if running is not None:
        wait([running])  # the first one stores the answer; this copy must not be acknowledged before it
        raise Ignore
    try:
        done = mine.result()
        if (self.request.delivery_info or {}).get("redelivered") and _is_settled(_life, task_id):
            raise Ignore  # another worker was quicker; a second result would never be collected
        return done
    except EngineDead as error:
        _life.engine_died(error)
        raise Reject(str(error), requeue=True) from error
    except CancelledError as error:
        raise Reject("this worker stops before the row is done", requeue=True) from error
    finally:
        with _in_flight_lock:
            _in_flight.pop(task_id, None)


async def _answer(life: WorkerLife, task_id: str, payload: dict[str, Any]) -> Answer:
    stamp = {"worker": life.worker, "fingerprint": life.fingerprint}
    try:
        question = Question.model_validate(payload)
        return (await answer_question(question, life.engine)).model_copy(update=stamp)
    except EngineDead:
        raise
    except ValidationError as error:
        reason = f"this worker does not understand the question ({error.error_count()} fields); upgrade producer and workers together"
    except Exception as error:  # a row must never leave as an exception: Celery would replace it by its own record
        log.exception("row %s failed", task_id)
        reason = f"{type(error).__name__}: {error}"
    run_id, row, generation = broker.parse_task_id(task_id)
    return Answer(run_id=run_id, row=row, generation=generation, outcome=Outcome.FAILED, error=reason, **stamp)


def _is_settled(life: WorkerLife, task_id: str) -> bool:
    """Say whether nothing is left to do: run cancelled or asked anew, the row's answer stored, or its result already there."""
    run_id, row, generation = broker.parse_task_id(task_id)
    pipe = life.redis.pipeline(transaction=False)
    pipe.exists(broker.cancelled_key(run_id))
    pipe.getbit(broker.stored_key(run_id, generation), row)
    pipe.exists(broker.result_key(task_id))
    pipe.get(broker.generation_key(run_id))
    try:
        *settled, current = pipe.execute()
    except redis.RedisError as error:
        raise Reject(f"Redis cannot be asked about this row: {error}", requeue=True) from error
    return any(settled) or generation < int(current or 0)


@signals.celeryd_init.connect
def _load_engine(sender: str, conf: Any, **_: Any) -> None:
    """Load the engine before Celery connects, so that no row is taken that nobody can answer."""
    global _life
    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # Celery's own handlers come later
    try:
        _life = WorkerLife(worker_settings(), broker.broker_settings())
        _life.start(sender)
    except UserError as error:
        print(f"kotae-worker: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_USER_ERROR) from error
    except Exception as error:  # Celery would log it and go on without an engine
        traceback.print_exc()
        print(f"kotae-worker: the engine could not start: {error}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_NO_ENGINE) from error
    conf.worker_concurrency = _life.max_in_flight


@signals.worker_ready.connect
def _rows_are_taken(**_: Any) -> None:
    assert _life is not None
    _life.ready()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """Give running rows ``drain_seconds``, then hand back what is not done; the threads pool itself would wait for ever."""
    assert _life is not None
    timer = threading.Timer(_life.settings.drain_seconds, _hand_back)
    timer.daemon = True
    timer.start()


def _hand_back() -> None:
    with _in_flight_lock:
        running = list(_in_flight.values())
    for future in running:
        future.cancel()


@signals.worker_shutdown.connect
def _goodbye(**_: Any) -> None:
    if _life is not None:
        _life.stop()
