"""A worker's life around its tasks: engine up before the first row, signs of life while it runs, the end when the engine dies."""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import redis
from celery.worker import state as celery_state

from .contract import broker
from .contract.errors import UserError
from .contract.fingerprint import fingerprint_identity
from .contract.messages import ModelIdentity, Presence
from .engines import Engine, open_engine
from .engines.ledger import LedgerEngine
from .settings import WorkerSettings

log = logging.getLogger(__name__)

#: Exit codes that a supervisor tells apart.
EXIT_NO_ENGINE = 71
EXIT_USER_ERROR = 2
EXIT_ENGINE_DEAD = 70
#: Seconds in which a process whose engine died gives its rows back before it ends in any case.
_LAST_WORDS = 10

T = TypeVar("T")


class WorkerLife:
    """One engine on one event loop, kept for as long as the process lives."""

    def __init__(self, settings: WorkerSettings, broker_settings: broker.BrokerSettings) -> None:
        self.settings = settings
        self.redis = broker.connect(broker_settings, patient=True)
        self.worker = ""
        self.fingerprint = ""
        self._identity: ModelIdentity | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = threading.Event()
        self._dying = threading.Event()
        engine = open_engine(settings)
        self.engine: Engine = LedgerEngine(engine, settings.ledger) if settings.ledger else engine
        self.max_in_flight = settings.max_in_flight or engine.max_in_flight

    def start(self, worker: str) -> None:
        """Load the engine and claim the served name. Raises UserError where somebody can mend what is wrong."""
        self.worker = worker
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        self._identity = self.submit(self.engine.start()).result()
        self.fingerprint = fingerprint_identity(self._identity)
        self.announce()

    def announce(self) -> None:
        """Claim the served name and say which model is behind it. Raises UserError if another model has the name."""
        assert self._identity is not None, "start() loads the engine first"
        self._claim_served_name()
        self.redis.hset(broker.IDENTITIES_KEY, self.fingerprint, self._identity.model_dump_json())

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine on the engine's loop; any thread may wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def ready(self) -> None:
        """Begin to give signs of life: rows are being taken."""
        self._stop.clear()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def engine_died(self, error: Exception) -> None:
        """End the process soon: rows in flight are given back first, no new ones are taken, a supervisor starts it again."""
        if self._dying.is_set():
            return
        self._dying.set()
        log.error("the engine died (%s); this process ends, its rows go back to the queue", error)
        celery_state.should_stop = EXIT_ENGINE_DEAD  # type: ignore[assignment]  # Celery's own way to stop with a code
        killer = threading.Timer(_LAST_WORDS, os._exit, (EXIT_ENGINE_DEAD,))
        killer.daemon = True
        killer.start()

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
        if self._identity is not None and not self._dying.is_set():
            self.submit(self.engine.close()).result(timeout=30)

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

    def _beat(self) -> None:
        while not self._stop.is_set():
            try:
                self._say_that_we_live()
                if not self._dying.is_set():
                    self._keep_rows()
            except redis.RedisError as error:
                log.warning("no sign of life could be given: %s", error)
            self._stop.wait(broker.HEARTBEAT)

    def _say_that_we_live(self) -> None:
        presence = Presence(
            worker=self.worker,
            served_name=self.settings.served_name,
            fingerprint=self.fingerprint,
            host=socket.gethostname(),
            pid=os.getpid(),
            gpu=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            in_flight=len(celery_state.active_requests),
            max_in_flight=self.max_in_flight,
        )
        key = broker.presence_key(self.settings.served_name, self.worker)
        pipe = self.redis.pipeline(transaction=False)
        pipe.set(key, presence.model_dump_json(), ex=broker.PRESENCE_TTL)
        pipe.set(broker.fingerprint_key(self.settings.served_name), self.fingerprint, ex=4 * broker.PRESENCE_TTL)
        pipe.execute()

    def _keep_rows(self) -> None:
        """Renew the clock of the rows held here, so that a short visibility timeout does not send them to a second worker.

        Uses kombu's own index of unacknowledged messages, scored by the time of delivery; not public, hence the pinned kombu.
        """
        now = time.time()
        tags = {tag: now for request in list(celery_state.reserved_requests) if (tag := _delivery_tag(request))}
        if tags:
            self.redis.zadd(broker.UNACKED_INDEX, tags, xx=True)


def _delivery_tag(request: Any) -> str | None:
    return getattr(getattr(request, "message", None), "delivery_tag", None)
