"""A worker's life around its tasks: engine up before the first row, signs of life while it runs, an orderly end however it ends."""

import asyncio
import gc
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import redis
from celery.worker import state as celery_state

from . import metrics
from .attempts import Attempts
from .cohorts import Cohorts
from .contract import broker
from .contract.errors import EngineDead, UserError
from .contract.exposition import serve_metrics
from .contract.fingerprint import fingerprint_identity
from .contract.messages import Answer, ModelIdentity, Presence
from .contract.version import kotae_version
from .early_claims import EarlyClaims
from .engines import Engine, open_engine
from .engines.ledger import LedgerEngine
from .host_page import HostPage, Source
from .meter import Meter
from .settings import WorkerSettings

log = logging.getLogger(__name__)

#: Exit codes that a supervisor tells apart.
EXIT_NO_ENGINE = 71
EXIT_USER_ERROR = 2
EXIT_ENGINE_DEAD = 70
#: Seconds in which a process that leaves gives its rows back before it ends in any case, those that each row adds, and the most: well
#: below the visibility timeout, since rows are not kept meanwhile.
_LAST_WORDS, _PER_ROW, _LONGEST_WORDS = 4.0, 0.01, 20.0
#: Seconds between two looks at the engine and at cancelled runs, and those that one look counts at most.
_TICK, _LONGEST_LOOK = 1.0, 5.0
#: Fewest rows that may wait for room in an engine.
_MIN_RESERVE = 4
#: Where the supervisor wants to hear that rows are taken: the number of a pipe.
READY_FD = "KOTAE_READY_FD"

T = TypeVar("T")


@dataclass
class Row:
    """A row that this process has and that is not done."""

    #: The pool's thread that waits for it.
    thread: int
    #: Whether the engine got it, and with no other row beside it.
    begun: bool = False
    alone: bool = False
    future: "Future[Answer] | None" = None
    #: Its run was cancelled, or asks anew.
    superseded: bool = False

    @property
    def is_in_engine(self) -> bool:
        """Say whether the engine owes a reply: it may not have been asked yet, or the answer may wait to be stored."""
        return self.future is not None and not self.future.done()


class WorkerLife:
    """One engine on one event loop, kept for as long as the process lives."""

    def __init__(self, settings: WorkerSettings, broker_settings: broker.BrokerSettings) -> None:
        self.settings = settings
        self.redis = broker.connect(broker_settings)
        self._patient_redis = broker.connect(broker_settings, patient=True)
        self._broker_settings = broker_settings
        #: Rows taken and not done, by task id.
        self.rows: dict[str, Row] = {}
        #: Rows whose result was stored since the last look at what was late.
        self.done: deque[str] = deque()
        self.cohorts = Cohorts()
        #: Set once no more rows are begun.
        self.leaving = threading.Event()
        self.engine_is_dead = False
        self._hand_back_at = float("inf")
        self._consumer: Any = None
        self._identity: ModelIdentity | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = threading.Event()
        engine = open_engine(settings)
        self.engine: Engine = LedgerEngine(engine, settings.ledger) if settings.ledger else engine
        #: Rows that may wait for room in the engine, so that a place in its batch is taken at once when it is free.
        self._reserve = max(_MIN_RESERVE, engine.max_in_flight // 32)
        self.gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.meter = Meter(len(self.gpu.split(",")))
        self._clock_skew = 0.0
        self._kotae = kotae_version()
        self.max_in_flight = settings.max_in_flight or engine.max_in_flight + self._reserve

    def start(self, worker: str) -> None:
        """Load the engine and claim the served name. Raises UserError where somebody can mend what is wrong."""
        self.worker, self.me = worker, f"{worker}#{uuid.uuid4().hex[:12]}"
        self.attempts = Attempts(self._patient_redis, self.me)
        self.early_claims = EarlyClaims(Attempts(self.redis, self.me), self.rows)
        self._serve_metrics()
        with broker.explaining(self._broker_settings):
            self._check_clock()
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        self._identity = self.submit(self.engine.start()).result()
        gc.collect()
        gc.freeze()  # what is loaded stays; looking through it again would stop all threads for 0.2 s now and then
        with broker.explaining(self._broker_settings):
            self.stamp = {"worker": worker, "fingerprint": fingerprint_identity(self._identity)}
            self.announce()

    @property
    def fingerprint(self) -> str:
        """Return what stands for the model in answers."""
        return self.stamp["fingerprint"]

    def announce(self) -> None:
        """Claim the served name and say which model is behind it. Raises UserError if another model has the name."""
        assert self._identity is not None, "start() loads the engine first"
        self._claim_served_name()
        self.redis.hset(broker.IDENTITIES_KEY, self.fingerprint, self._identity.model_dump_json())

    @property
    def rows_in_engine(self) -> int:
        """Return how many rows the engine has."""
        return sum(row.is_in_engine for row in list(self.rows.values()))

    @property
    def takes_rows(self) -> bool:
        """Say whether rows are taken: not before the engine is up, nor once we leave."""
        return self._consumer is not None and not self.leaving.is_set()

    def wanted_rows(self) -> int:
        """Return how many more rows would soon be begun: those that would only wait here are better left to other workers."""
        return 0 if self.leaving.is_set() else max(0, self._reserve - self.engine.waiting)

    def is_full(self) -> bool:
        """Say whether no more rows can be taken. Threads are counted, not rows: one that is delivered twice takes two."""
        return len(celery_state.active_requests) >= self.max_in_flight

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the engine's loop; any thread may wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ready(self, consumer: Any) -> None:
        """Begin to give signs of life: rows are being taken by Celery's ``consumer``."""
        self._consumer = consumer
        self._stop.clear()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        if pipe := os.environ.pop(READY_FD, ""):
            os.write(int(pipe), b"ready\n")
            os.close(int(pipe))

    def leave(self, code: int, grace: float) -> None:
        """Take no more rows, give running ones ``grace`` seconds, hand back the others, and end the process with ``code``.

        While it waits, rows that get done are stored and acknowledged as ever. Called again it can only be quicker.
        """
        self._hand_back_at = min(self._hand_back_at, time.monotonic() + grace)
        if not self.leaving.is_set():
            self.leaving.set()
            threading.Thread(target=self._see_rows_off, args=(code,), name="leave", daemon=True).start()

    def engine_died(self, reason: str) -> None:
        """End the process: its rows go back at once, a supervisor starts it again."""
        if not self.engine_is_dead:
            self.engine_is_dead = True
            log.error("the engine died (%s); this process ends, its rows go back to the queue", reason)
        self.leave(EXIT_ENGINE_DEAD, 0.0)

    def retire(self) -> None:
        """Say goodbye: no more rows are taken."""
        self._stop.set()
        try:
            self.redis.delete(broker.presence_key(self.settings.served_name, self.worker))
        except redis.RedisError:
            log.warning("could not say goodbye to Redis; the presence key expires by itself")

    def stop(self) -> None:
        """Say goodbye and close the engine."""
        self.retire()
        if self._identity is not None and not self.engine_is_dead:
            self.submit(self.engine.close()).result(timeout=30)

    def _see_rows_off(self, code: int) -> None:
        for name in broker.queue_names(self.settings.served_name):
            self._consumer.call_soon(self._consumer.cancel_task_queue, name)
        while self.rows and time.monotonic() < self._hand_back_at:
            self.cohorts.wake()
            time.sleep(0.05)
        if self.rows:
            log.warning("rows handed back: %d", len(self.rows))
        last = threading.Timer(min(_LAST_WORDS + _PER_ROW * len(self.rows), _LONGEST_WORDS), os._exit, (code,))
        last.daemon = True
        last.start()
        while celery_state.reserved_requests:
            self._hand_back()
            time.sleep(0.05)
        with suppress(redis.RedisError):
            self._withdraw_late()
        for _ in range(2):  # one pass of Celery's loop sends the acknowledgements, in no order
            passed = threading.Event()
            self._consumer.call_soon(passed.set)
            passed.wait()
        last.cancel()
        celery_state.should_stop = code  # type: ignore[assignment]  # Celery's own way to stop with a code

    def _hand_back(self) -> None:
        self.cohorts.wake()
        for row in list(self.rows.values()):
            if row.future is not None:
                row.future.cancel()

    def _serve_metrics(self) -> None:
        """Show them to the supervisor, or without one to all."""
        metrics.watch(self)
        settings = self.settings
        if settings.metrics_socket is not None:
            metrics.serve_page(settings.metrics_socket)
        elif settings.metrics_port is not None:
            alone = Source(os.environ.get("CUDA_VISIBLE_DEVICES") or "cpu", metrics.page, restarts=lambda: 0)
            serve_metrics(HostPage(settings.served_name, [alone]), settings.metrics_host, settings.metrics_port, settings.metrics_tls)

    def _claim_served_name(self) -> None:
        """Refuse to serve beside workers that have another model under the same name."""
        key = broker.fingerprint_key(self.settings.served_name)
        if not self.redis.set(key, self.fingerprint, nx=True, ex=4 * broker.PRESENCE_TTL):
            served = cast(bytes, self.redis.get(key) or b"").decode()
            if served not in ("", self.fingerprint):
                raise UserError(
                    f"other workers serve {self.settings.served_name} with another model (fingerprint {served}, this one has"
                    f" {self.fingerprint}); give this model a name of its own with --name, or stop them and wait a minute"
                )

    def _check_clock(self) -> None:
        """Raise UserError if our clock is not that of Redis: kombu would hand our rows to others, or theirs to us."""
        self._clock_skew = skew = broker.clock_skew(self.redis)
        if abs(skew) > broker.MAX_CLOCK_SKEW:
            raise UserError(
                f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} that of the broker: rows would be"
                " answered twice; set both by NTP"
            )

    def _beat(self) -> None:
        """Look after engine and rows until the process stops: whoever beats is healthy, and keeps its rows."""
        watch = _Watch(self.engine, self.settings.hang_seconds)
        last = 0.0
        while not self._stop.wait(_TICK if last else 0):
            if self.engine_is_dead:
                continue
            if reason := watch.ailment(self.rows_in_engine):
                self.engine_died(reason)
                continue
            try:
                self._drop_superseded()
                self._withdraw_late()
                if time.monotonic() - last >= broker.HEARTBEAT:
                    self._say_that_we_live()
                    self._keep_rows()
                    self._check_clock()
                    last = time.monotonic()
            except UserError as error:
                log.error("%s", error)
                self.leave(EXIT_USER_ERROR, 0.0)
            except redis.RedisError as error:
                log.warning("no sign of life could be given: %s", error)

    def _drop_superseded(self) -> None:
        rows = dict(self.rows)
        for task_id in self.attempts.superseded(rows) if rows else []:
            row = rows[task_id]
            row.superseded = True
            if row.future is not None:
                row.future.cancel()

    def _withdraw_late(self) -> None:
        done = [self.done.popleft() for _ in range(len(self.done))]
        try:
            self.attempts.withdraw_late(done)
        except redis.RedisError:
            self.done.extend(done)
            raise

    def _say_that_we_live(self) -> None:
        rows_per_second, tokens_per_second = self.meter.rates()
        presence = Presence(
            contract=broker.CONTRACT_VERSION,
            kotae=self._kotae,
            worker=self.worker,
            incarnation=self.me,
            served_name=self.settings.served_name,
            fingerprint=self.fingerprint,
            host=socket.gethostname(),
            pid=os.getpid(),
            gpu=self.gpu,
            in_flight=len(celery_state.active_requests),
            max_in_flight=self.max_in_flight,
            runs=self.meter.in_flight(),
            rows_per_second=round(rows_per_second, 3),
            tokens_per_second=round(tokens_per_second, 1),
            clock_skew=round(self._clock_skew, 3),
            leaving=self.leaving.is_set(),
        )
        key = broker.presence_key(self.settings.served_name, self.worker)
        pipe = self.redis.pipeline(transaction=False)
        pipe.set(key, presence.model_dump_json(), ex=broker.PRESENCE_TTL)
        pipe.set(broker.fingerprint_key(self.settings.served_name), self.fingerprint, ex=4 * broker.PRESENCE_TTL)
        pipe.execute()

    def _keep_rows(self) -> None:
        """Renew the clock of the rows held here, so that a short visibility timeout does not send them to a second worker.

        kombu judges by its index of unacknowledged messages, which is scored by the time of delivery.
        """
        channel = getattr(getattr(self._consumer, "task_consumer", None), "channel", None)
        now = time.time()
        tags = {tag: now for request in list(celery_state.reserved_requests) if (tag := _delivery_tag(request))}
        if channel is not None and tags:
            self.redis.zadd(broker.unacked_index(channel), tags, xx=True)


class _Watch:
    """Tells an engine that is gone, or that stands still although it has rows, from one that only takes its time."""

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine, self._patience = engine, patience
        self._steps, self._still, self._looked = -1, 0.0, time.monotonic()

    def ailment(self, rows: int) -> str:
        """Return what is wrong with the engine; empty if nothing is."""
        try:
            self._engine.check()
        except EngineDead as error:
            return str(error)
        now = time.monotonic()
        # While Redis is away nobody looks for minutes, and what was true before may not have been so all the time.
        self._still += min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        if not rows or self._engine.steps != self._steps:
            self._steps, self._still = self._engine.steps, 0.0
        return f"no step for {self._still:.0f} s although it has {rows} rows" if self._still > self._patience else ""


def _delivery_tag(request: Any) -> str | None:
    return getattr(getattr(request, "message", None), "delivery_tag", None)
