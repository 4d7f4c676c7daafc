"""A producer's connection to Redis: the client, the settings, and what can be asked about the fleet."""

import contextlib
import os
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from redis.exceptions import LockError
from redis.lock import Lock

from workers.contract import broker
from workers.contract.errors import BrokerError, BrokerFull, BrokerUnreachable, UserError
from workers.contract.messages import ModelIdentity, Presence
from workers.contract.tls import certificate_days

from .manifest import Manifest

if TYPE_CHECKING:
    import redis

#: Share of the memory that Redis may use up to which rows are sent.
FILL = 0.8
#: Seconds after which the lease of a producer that died may be taken by another.
LEASE = 30


class Load(NamedTuple):
    """What Redis carries."""

    #: Rows taken by workers and not acknowledged.
    taken: int
    #: Bytes used, and how many may be (0: any number).
    memory: int
    max_memory: int
    #: Connections.
    clients: int


class Transport:
    """Redis, as a producer uses it."""

    def __init__(self, settings: broker.BrokerSettings) -> None:
        self.settings = settings
        self.redis: redis.Redis = broker.connect(settings)

    def close(self) -> None:
        """Close all connections."""
        self.redis.close()

    def workers(self, served_name: str | None = None) -> list[Presence]:
        """Return the workers that take rows of ours, of one served name or of all."""
        present = self.present(served_name)
        return [worker for worker in present if worker.contract == broker.CONTRACT_VERSION and not worker.leaving]

    def present(self, served_name: str | None = None) -> list[Presence]:
        """Return the workers that gave a sign of life lately: also those that leave, and those of other contract versions."""
        pattern = broker.presence_key(_escape(served_name) if served_name is not None else "*", "*")
        with broker.explaining(self.settings):
            keys = sorted(self.redis.scan_iter(match=pattern, count=1000))
            values = self.redis.mget(keys) if keys else []
        workers = [Presence.model_validate_json(value) for value in values if value is not None]
        # The pattern for "a" finds the workers of "a.b" too
        return [worker for worker in workers if served_name in (None, worker.served_name)]

    def seconds_left_of(self, workers: Collection[Presence]) -> list[float]:
        """Return how long each worker is still listed if it gives no further sign of life; negative if it no longer is."""
        with broker.explaining(self.settings):
            pipe = self.redis.pipeline(transaction=False)
            for worker in workers:
                pipe.pttl(broker.presence_key(worker.served_name, worker.worker))
            return [milliseconds / 1000 for milliseconds in pipe.execute()] if workers else []

    def identity(self, fingerprint: str) -> ModelIdentity | None:
        """Return which model a fingerprint stands for."""
        with broker.explaining(self.settings):
            value = self.redis.hget(broker.IDENTITIES_KEY, fingerprint)
        return ModelIdentity.model_validate_json(cast(bytes, value)) if value is not None else None

    def queue_lengths(self, names: Collection[str]) -> dict[str, int]:
        """Return how many rows wait on each of these queues."""
        with broker.explaining(self.settings):
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.llen(name)
            return dict(zip(names, pipe.execute(), strict=True))

    def waiting(self) -> Counter[str]:
        """Return how many rows wait for each served name that any wait for; an empty list is no key in Redis."""
        with broker.explaining(self.settings):
            names = [cast(bytes, key).decode() for key in self.redis.scan_iter(match=broker.queue_pattern(), count=1000, _type="list")]
            pipe = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.llen(name)
            waiting = Counter[str]()
            for name, length in zip(names, pipe.execute(), strict=True):
                waiting[broker.served_name_of(name)] += length
        return waiting

    def queue_for(self, manifest: Manifest) -> str:
        """Return the queue that a run keeps to or, if that is none for it any more, the one on which it waits least.

        A run that asks for priority, or no longer does, changes its queue; so does one that an earlier contract version began.
        Queues that another run has chosen lately are taken last, so that runs that start at the same moment do not share one.
        """
        names = broker.queue_names_for(manifest.served_name, priority=manifest.priority)
        if manifest.queue in names:
            return manifest.queue
        lengths = self.queue_lengths(names)
        first = int(manifest.run_id, 16) % len(names)
        shortest = sorted(names[first:] + names[:first], key=lambda name: lengths[name])
        with broker.explaining(self.settings):
            free = (name for name in shortest if self.redis.set(broker.chosen_key(name), manifest.run_id, nx=True, ex=LEASE))
            return next(free, shortest[0])

    def hold_queue(self, manifest: Manifest) -> None:
        """Have further runs choose other queues than this run's, for as long as a lease holds."""
        if manifest.queue is not None:
            with contextlib.suppress(BrokerFull), broker.explaining(self.settings):
                self.redis.set(broker.chosen_key(manifest.queue), manifest.run_id, ex=LEASE)

    def generation(self, run_id: str) -> int:
        """Return the generation in which a run asks by now, as far as this Redis knows; workers pass over earlier ones."""
        with broker.explaining(self.settings):
            return int(cast(bytes | None, self.redis.get(broker.generation_key(run_id))) or 0)

    def raise_generation(self, run_id: str, past: int) -> None:
        """Have workers drop the rows of generation ``past``, and all earlier ones, for which somebody waits no more."""
        if self.generation(run_id) <= past:
            with broker.explaining(self.settings):
                self.redis.set(broker.generation_key(run_id), past + 1, ex=broker.STORED_TTL)

    def has_room(self) -> bool:
        """Say whether Redis may take more rows. It must keep memory for what workers write, or nothing would ever move again."""
        try:
            with broker.explaining(self.settings):
                memory = self.redis.info("memory")
        except BrokerUnreachable:
            raise
        except BrokerError:  # an ACL that keeps INFO from us
            return True
        return not memory["maxmemory"] or memory["used_memory"] < FILL * memory["maxmemory"]

    def load(self) -> Load:
        """Return how much Redis has to carry. Raises BrokerError, also where an ACL keeps INFO from us."""
        with broker.explaining(self.settings):
            pipe = self.redis.pipeline(transaction=False)
            pipe.hlen(broker.UNACKED)
            pipe.info("memory")
            pipe.info("clients")
            taken, memory, clients = pipe.execute()
        return Load(taken, memory["used_memory"], memory["maxmemory"], clients["connected_clients"])

    def certificate_days(self) -> float:
        """Return for how many days the broker's certificate holds; infinity without one."""
        with broker.explaining(self.settings):
            return certificate_days(self.settings.url())

    def holder(self, run_id: str) -> str:
        """Return who owns a run at the moment; empty if nobody does."""
        with broker.explaining(self.settings):
            return cast(bytes, self.redis.get(broker.lease_key(run_id)) or b"").decode()

    @contextlib.contextmanager
    def lease(self, run_id: str) -> Iterator["Lease"]:
        """Own a run for as long as the lease is renewed. Raises UserError, naming the holder, if another producer does."""
        lease = Lease(self, run_id)
        lease.take()
        try:
            yield lease
        finally:
            lease.release()


class Lease:
    """The right of one producer to a run, kept in Redis for ``LEASE`` seconds at a time."""

    def __init__(self, transport: Transport, run_id: str) -> None:
        self._transport, self._run_id = transport, run_id
        self._lock = Lock(transport.redis, broker.lease_key(run_id), timeout=LEASE, blocking=False, thread_local=False)
        self._token = f"process {os.getpid()} on {socket.gethostname()} ({uuid.uuid4().hex[:8]})"

    def take(self) -> None:
        """Take the lease, also of a producer that is no more. Raises UserError, naming the holder, if one that lives has it."""
        left = float("inf")
        while not self._acquired():
            holder, before = self._transport.holder(self._run_id), left
            with broker.explaining(self._transport.settings):
                left = self._transport.redis.pttl(broker.lease_key(self._run_id))
                if holder and _is_dead(holder):
                    self._let_go_for(holder)
            if left > before:
                raise UserError(f"run {self._run_id} is owned by {holder}; wait for it, or stop it")
            time.sleep(0.2)  # one that lives renews it long before it ends

    def _acquired(self) -> bool:
        with broker.explaining(self._transport.settings):
            return bool(self._lock.acquire(token=self._token))

    def _let_go_for(self, holder: str) -> None:
        key = broker.lease_key(self._run_id)

        def remove(pipe: Any) -> None:
            held = pipe.get(key)
            pipe.multi()
            if held == holder.encode():
                pipe.delete(key)

        self._transport.redis.transaction(remove, key)

    def renew(self) -> bool:
        """Keep the lease; say whether it was kept without a gap. After one (a laptop slept, Redis forgot) it is taken anew."""
        with broker.explaining(self._transport.settings):
            try:
                self._lock.reacquire()
            except LockError:
                self._lock.local.token = None
            else:
                return True
        self.take()
        return False

    def release(self) -> None:
        """Let go of the run."""
        with contextlib.suppress(LockError, BrokerError), broker.explaining(self._transport.settings):
            self._lock.release()


def _is_dead(holder: str) -> bool:
    """Say whether the holder of a lease was a process of this machine, and is one no more."""
    known = re.fullmatch(r"process (\d+) on (\S+) .*", holder)
    return known is not None and known[2] == socket.gethostname() and not Path(f"/proc/{known[1]}").exists() and Path("/proc/self").exists()


def _escape(name: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]^\\" else c for c in name)
