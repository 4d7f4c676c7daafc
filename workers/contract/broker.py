"""How rows travel: the Celery apps, every Celery and Redis option with its reason, and the names of queues, tasks and keys."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import redis
from celery import Celery
from kombu import Exchange, Queue
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from .errors import BrokerError, BrokerFull, BrokerUnreachable
from .messages import parse_task_id as parse_task_id
from .messages import task_id as task_id
from .tls import speaks_tls

#: Connections that the threads of a worker share.
PATIENT_CONNECTIONS = 32
#: Part of every queue's name: producers and workers that do not understand each other never meet.
CONTRACT_VERSION = 1
ANSWER_TASK = "kotae.answer"
#: Queues of one served name. On one list 100 rows behind 6,000 took ten times their time alone, on two 1.3 times.
QUEUES = 16
#: Further queues of one served name, for runs with priority: workers take from these while there is anything on them.
FIRST_QUEUES = 4
_FIRST = "first-"

#: Seconds after which rows of a silent worker go back to the queue; the heartbeat keeps a living worker's rows away from this.
VISIBILITY_TIMEOUT = 30
#: Seconds between two signs of life of a worker.
HEARTBEAT = 3
#: Seconds after which a worker that gave no sign of life is no longer listed.
PRESENCE_TTL = 15
#: Seconds by which a worker's clock may differ from that of Redis: kombu judges by each host's own which rows are overdue.
MAX_CLOCK_SKEW = 5.0
#: Seconds for which a run's stored bits outlive its last stored row, so that a late redelivery still finds them.
STORED_TTL = 7 * 86400


class BrokerSettings(BaseSettings):
    """Where Redis or Valkey is: ``KOTAE_BROKER``; its password there, in ``KOTAE_BROKER_PASSWORD`` or in a file."""

    model_config = SettingsConfigDict(env_prefix="KOTAE_", hide_input_in_errors=True)

    broker: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    broker_password: SecretStr | None = None
    broker_password_file: Path | None = None

    def url(self) -> str:
        """Return the full URL, password included: for connecting only, never for printing."""
        parts = urlsplit(self.broker.get_secret_value())
        if parts.scheme == "rediss" and "ssl_cert_reqs=" not in parts.query:  # what redis-py takes for granted, and Celery wants to read
            parts = parts._replace(query="&".join(filter(None, ["ssl_cert_reqs=required", parts.query])))
        if password := self._password():
            user = f"{parts.username or ''}:{quote(password, safe='')}"
            parts = parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}")
        return urlunsplit(parts)

    def masked(self) -> str:
        """Return the URL as it may be shown."""
        return mask(self.broker.get_secret_value())

    def password_source(self) -> str:
        """Return where the password is from that counts, for who is to mend it; empty without one."""
        if self.broker_password_file is not None:
            return f"KOTAE_BROKER_PASSWORD_FILE ({self.broker_password_file})"
        if self.broker_password is not None and self.broker_password.get_secret_value():
            return "KOTAE_BROKER_PASSWORD"
        return "the URL" if urlsplit(self.broker.get_secret_value()).password else ""

    def _password(self) -> str:
        if self.broker_password_file is None:
            return self.broker_password.get_secret_value() if self.broker_password else ""
        try:
            password = self.broker_password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise BrokerError(f"cannot read the broker's password file {self.broker_password_file}: {reason}") from error
        if not password:
            raise BrokerError(f"the broker's password file {self.broker_password_file} is empty")
        return password


def mask(url: str) -> str:
    """Return a URL with its password hidden."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}"))


# Names of things in Redis, each made here only.


def queue_names(served_name: str) -> list[str]:
    """Return all queues of a served name; a run keeps to one of them."""
    return queue_names_for(served_name, priority=False) + queue_names_for(served_name, priority=True)


def queue_names_for(served_name: str, *, priority: bool) -> list[str]:
    """Return the queues of a served name among which runs with or without priority choose; workers read each kind in turn."""
    ends = [f"{_FIRST}{k}" for k in range(FIRST_QUEUES)] if priority else [str(k) for k in range(QUEUES)]
    return [f"kotae.{CONTRACT_VERSION}.{served_name}.{end}" for end in ends]


def goes_first(queue: str) -> bool:
    """Say whether a queue is one of those for runs with priority."""
    return queue.rpartition(".")[2].startswith(_FIRST)


def parse_queue_name(queue: str) -> tuple[int, str] | None:
    """Return contract version and served name of a queue, of any version; None if it is not a queue of ours."""
    known = re.fullmatch(rf"kotae\.(\d+)\.(.+)\.(?:{_FIRST})?\d+", queue)
    return (int(known[1]), known[2]) if known else None


def queue_pattern() -> str:
    """Return the pattern of all queues of this contract version, whatever they serve."""
    return f"kotae.{CONTRACT_VERSION}.*"


def served_name_of(queue: str) -> str:
    """Return the served name of a queue."""
    return queue.removeprefix(f"kotae.{CONTRACT_VERSION}.").rpartition(".")[0]


def result_key(name: str) -> str:
    """Return where Celery's Redis backend keeps the result of a task (a test holds this against the backend itself)."""
    return f"celery-task-meta-{name}"


def stored_key(run_id: str, generation: int) -> str:
    """Return the bitmap with one bit per row whose answer the collector has in its run store."""
    return f"kotae.stored.{run_id}.{generation}"


def sent_key(run_id: str, generation: int) -> str:
    """Return the bitmap with one bit per row that was put on a queue of this Redis."""
    return f"kotae.sent.{run_id}.{generation}"


def generation_key(run_id: str) -> str:
    """Return the generation in which a run's rows are asked now; messages of an earlier one are passed over.

    A run is cancelled by raising it: what is on its way belongs to the past then.
    """
    return f"kotae.generation.{run_id}"


def claims_key(run_id: str, generation: int) -> str:
    """Return the hash of rows that are being answered: row -> incarnation of the worker that is at it."""
    return f"kotae.claims.{run_id}.{generation}"


def deaths_key(run_id: str, generation: int) -> str:
    """Return the hash of how often an engine ended while it had a row: ``row`` in any company, ``row:alone`` alone."""
    return f"kotae.deaths.{run_id}.{generation}"


def lease_key(run_id: str) -> str:
    """Return the key whose holder is the one producer that owns a run."""
    return f"kotae.lease.{run_id}"


def chosen_key(queue: str) -> str:
    """Return the key that is there while a run feeds this queue: further runs choose other ones, though it may be empty at the moment."""
    return f"kotae.chosen.{queue}"


def presence_key(served_name: str, worker: str) -> str:
    """Return where a worker says that it lives."""
    return f"kotae.presence.{served_name}.{worker}"


def fingerprint_key(served_name: str) -> str:
    """Return the fingerprint that all workers of a served name must share."""
    return f"kotae.fingerprint.{served_name}"


def unacked_index(channel: Any) -> str:
    """Return where the broker's ``channel`` keeps its index of unacknowledged messages: delivery tag -> time of delivery.

    Not public, hence the pinned kombu and a test.
    """
    return f"{channel.global_keyprefix}{channel.unacked_index_key}"


#: kombu's hash of messages that were fetched and not yet acknowledged.
UNACKED = "unacked"
#: Hash: fingerprint -> ModelIdentity as JSON. Small, and kept: answers refer to it long after their worker is gone.
IDENTITIES_KEY = "kotae.identities"


# Connections.


def connect(settings: BrokerSettings, *, patient: bool = False) -> "redis.Redis":
    """Return a client that has reached Redis once. Raises BrokerError in one line otherwise.

    A ``patient`` client tries every command again for some minutes, since a worker outlives a restart of Redis.
    """
    options: dict[str, Any] = {"socket_connect_timeout": 5, "socket_timeout": 30, "socket_keepalive": True, "health_check_interval": 25}
    with explaining(settings):
        try:
            with redis.Redis.from_url(settings.url(), **options) as first:
                first.ping()
        except TypeError as error:
            raise BrokerError(f"the broker's URL has an option that there is not: {str(error).rpartition(' ')[2]}") from error
        except redis.exceptions.ConnectionError as error:  # to who does not speak TLS, a server that does only hangs up
            url = settings.url()
            if url.startswith("rediss:") or isinstance(error, redis.exceptions.AuthenticationError) or not speaks_tls(url):
                raise
            how = "write rediss://.../0?ssl_ca_certs=FILE"
            raise BrokerUnreachable(f"the broker at {settings.masked()} speaks TLS: {how}") from error
        if not patient:
            client: redis.Redis = redis.Redis.from_url(settings.url(), **options)
            return client
        options["retry"] = Retry(ExponentialBackoff(cap=2.0, base=0.1), retries=200)
        # Hundreds of threads share it: they wait for a connection, where an ordinary pool would fail.
        pool = redis.BlockingConnectionPool.from_url(settings.url(), max_connections=PATIENT_CONNECTIONS, timeout=None, **options)
        return redis.Redis.from_pool(pool)


def clock_skew(client: "redis.Redis") -> float:
    """Return by how many seconds this machine's clock is ahead of that of Redis; what the way there took is not held against it."""
    before = time.time()
    seconds, microseconds = client.time()
    after = time.time()
    there: float = seconds + microseconds / 1e6
    return before - there if there < before else -max(0.0, there - after)


@contextmanager
def explaining(settings: BrokerSettings) -> Iterator[None]:
    """Turn the errors of redis-py and kombu into one line that says what to do."""
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        source = settings.password_source()
        how = f"refused the password of {source}" if source else "wants a password: give it in KOTAE_BROKER_PASSWORD or a file"
        raise BrokerError(f"the broker at {settings.masked()} {how}") from error
    except redis.exceptions.NoPermissionError as error:
        raise BrokerError(f"the broker at {settings.masked()} does not allow this user what Kotae needs: {error}") from error
    except redis.exceptions.OutOfMemoryError as error:
        raise BrokerFull(f"the broker at {settings.masked()} is out of memory: raise its maxmemory or lower --window") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise BrokerUnreachable(f"cannot reach the broker at {settings.masked()}: {_reason(error)}") from error
    except (redis.exceptions.RedisError, ValueError) as error:
        raise BrokerError(f"the broker at {settings.masked()} cannot be used: {error}") from error


def _reason(error: Exception) -> str:
    return str(error).rstrip(".").splitlines()[0] if str(error) else type(error).__name__


def broker_settings(url: str | None = None) -> BrokerSettings:
    """Read the settings from the environment, with ``url`` in place of its broker. Raises BrokerError."""
    try:
        settings = BrokerSettings(broker=SecretStr(url)) if url else BrokerSettings()
        parts = urlsplit(settings.broker.get_secret_value())
        if parts.scheme.startswith("redis") and not parts.path.strip("/").isdigit() and parts.path.strip("/"):
            raise ValueError("no such database")
        _check_files(parts.query)
        return settings
    except ValidationError as error:
        fields = ", ".join(f"KOTAE_{'.'.join(map(str, e['loc'])).upper()}" for e in error.errors())
        raise BrokerError(f"the broker's settings cannot be read: check {fields}") from error
    except ValueError as error:
        raise BrokerError("the broker's URL cannot be read: write it as redis://host:port/db") from error


def _check_files(query: str) -> None:
    """Name a file of a URL's options that is not there: redis-py only says that some file is not."""
    for name, value in parse_qsl(query):
        if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(value, os.R_OK):
            raise BrokerError(f"the broker's URL says {name}={value}, and that file cannot be read")


# The two Celery apps.

#: Celery's Redis backend as the outbox needs it.
PATIENT_BACKEND = "workers.contract.results:PatientRedisBackend"


def producer_app(settings: BrokerSettings) -> Celery:
    """Return the app that sends. It has no result backend: with one, every send subscribes to its result's channel."""
    app = Celery("kotae-producer", broker=settings.url(), set_as_current=False)
    app.conf.update(_common())
    return app


def worker_config(settings: BrokerSettings, served_name: str, *, events: bool = True) -> dict[str, Any]:
    """Return the configuration of the app that answers; without ``events``, Flower is told of rows only once it asks for that."""
    url = settings.url()
    return _common() | {
        "broker_url": url,
        "broker_use_ssl": _tls_options(url),
        "worker_consumer": "workers.consumer:Consumer",  # lets events gather
        "result_backend": f"{PATIENT_BACKEND}+{url}",
        "task_queues": celery_queues(served_name),
        "worker_pool": "threads",  # prefork children may not have children, and an engine has some
        "task_acks_late": True,  # rows of a killed worker come back
        "worker_prefetch_multiplier": 1,  # with 4, two of four workers hoarded rows that the others could have answered
        "result_expires": None,  # answers that nobody has collected are kept; the collector removes them
        "result_backend_always_retry": True,  # for what the outbox does not do: whether a row that comes again has a result
        "result_backend_thread_safe": True,  # one pool of connections, not one connection per thread
        "redis_max_connections": 1024,  # redis-py's own limit of 100 fails where many rows come again at once
        "redis_backend_health_check_interval": 30,  # answers take minutes; a dead connection is noticed in between
        "redis_socket_keepalive": True,
        "redis_socket_connect_timeout": 5,
        "redis_socket_timeout": 30,
        "worker_send_task_events": events,  # for Flower; Celery never ends what it began with
        "worker_deduplicate_successful_tasks": True,  # halves what is repeated after all connections were cut
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # it repeats every row in flight
        "worker_soft_shutdown_timeout": 0,  # does nothing but wait in the threads pool
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,  # the engine's own processes write to them
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a worker outlives any restart of Redis
        "task_track_started": False,  # a write per row that nobody reads
    }


def _tls_options(url: str) -> dict[str, str] | bool:
    """Return the options of TLS in a URL once more: Celery reads them there, Flower's page of queues only by themselves."""
    parts = urlsplit(url)
    options = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    return options if parts.scheme == "rediss" else False


def celery_queues(served_name: str) -> list[Queue]:
    """Return the queues of a served name as Celery wants them."""
    exchange = Exchange("kotae", type="direct")
    return [Queue(name, exchange, routing_key=name) for name in queue_names(served_name)]


def _common() -> dict[str, Any]:
    return {
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],  # no pickle
        "task_send_sent_event": False,
        "broker_transport_options": {
            # Must be the same in every app of one Redis: kombu lets the shortest win. The clock starts when a message is
            # fetched; the heartbeat in lifecycle.py renews it, so it may be far shorter than an answer takes.
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "unacked_restore_interval": 5,  # by default a killed worker's rows come back after 100 s, whatever the timeout
            "unacked_restore_throttle": 1,
            "queue_order_strategy": "round_robin",  # a short run behind a long one gets its share; workers add priority
            "priority_steps": [0],  # one list per queue instead of four
            "health_check_interval": 25,
            "socket_keepalive": True,
            "socket_connect_timeout": 5,
        },
    }
