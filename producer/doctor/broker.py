"""What the doctor looks at in Redis or Valkey: version, memory, persistence, who may reach it, what we may do there."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import redis

from workers.contract.broker import explaining
from workers.contract.errors import BrokerError, BrokerUnreachable

from ..transport import FILL, Transport
from .finding import Finding, ok, problem, warning
from .permissions import denied

#: The oldest server that kombu's transport and our commands work with.
_OLDEST = (6, 2)
#: Share of the memory, and of the connections, from which on it gets tight.
_TIGHT = 0.6
#: Days for which a certificate should hold.
_SOON = 30
_PART = "broker"


def look_at_broker(transport: Transport) -> Iterator[Finding]:
    """Look at a server that answers. Raises BrokerError if it no longer does."""
    yield from _way_there(transport)
    with explaining(transport.settings):
        if refused := denied(transport.redis):
            yield problem(
                _PART,
                f"its ACL does not allow this user: {', '.join(refused)}",
                "ACL SETUSER name ~* &* +@all -@dangerous -@admin +info; workers need the same",
            )
        else:
            yield ok(_PART, "this user may do all that producers and workers do")
    try:
        with explaining(transport.settings):
            info: dict[str, Any] = transport.redis.info()
    except BrokerUnreachable:
        raise
    except BrokerError:
        yield warning(_PART, "this user may not ask for INFO: version, memory and persistence are not checked", "ACL SETUSER name +info")
        return
    yield from _server(info)
    yield from _memory(info)
    yield from _persistence(info)


def _way_there(transport: Transport) -> Iterator[Finding]:
    url = transport.settings.url()
    parts = urlsplit(url)
    here = parts.scheme == "unix" or parts.hostname in (None, "localhost", "::1") or str(parts.hostname).startswith("127.")
    if parts.scheme == "rediss":
        if parse_qs(parts.query).get("ssl_cert_reqs", [""])[0] in ("none", "CERT_NONE"):
            yield warning(_PART, "TLS is on, but the server's certificate is not checked", "remove ssl_cert_reqs=none from the URL")
        else:
            yield _certificate(transport)
    elif not here:
        yield warning(_PART, "questions, answers and the password cross the network in clear", "use TLS: rediss://")
    if not _opens_without_password(url):
        yield ok(_PART, "it asks for a password")
    elif here:
        yield warning(_PART, "everybody on this machine may use it: it asks for no password", "set requirepass, or an ACL")
    else:
        yield problem(_PART, "everybody who reaches it may read and change all: it asks for no password", "set requirepass, or an ACL")


def _certificate(transport: Transport) -> Finding:
    days = transport.certificate_days()
    if days < _SOON:
        make_new = "delete its folder, run compose/certificates.sh again, and restart the broker; those of other machines may be as old"
        return warning(_PART, f"TLS is on, but the broker's certificate ends in {days:.0f} days, and nobody reaches it then", make_new)
    return ok(_PART, f"TLS is on; the broker's certificate holds for {days:.0f} days")


def _opens_without_password(url: str) -> bool:
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        with redis.Redis.from_url(bare, socket_connect_timeout=5, socket_timeout=5) as stranger:
            return bool(stranger.ping())
    except (redis.RedisError, OSError):
        return False


def _server(info: dict[str, Any]) -> Iterator[Finding]:
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    known = tuple(int(number) for number in re.findall(r"\d+", str(info["redis_version"]))[:2])
    if known < _OLDEST:
        yield problem(_PART, f"{name} {version} is too old", "install Redis 6.2 or newer, or Valkey")
    else:
        yield ok(_PART, f"{name} {version}")
    if info.get("role") == "slave":
        yield problem(_PART, "it is a replica, which takes no rows", "name its primary in the URL")
    if info.get("cluster_enabled"):
        yield problem(_PART, "it is a Redis Cluster, which kombu cannot use", "use a server of its own, without cluster-enabled")
    if info.get("loading"):
        yield warning(_PART, "it is still loading its data", "wait")
    clients, most = info.get("connected_clients", 0), info.get("maxclients", 0)
    if most and clients > _TIGHT * most:
        yield warning(_PART, f"{clients} of {most} connections are taken", "raise maxclients; a worker holds up to about 50")


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield problem(_PART, f"maxmemory-policy is {policy}: an evicted key is a lost answer", "CONFIG SET maxmemory-policy noeviction")
    else:
        yield ok(_PART, "maxmemory-policy is noeviction")
    used, most = info["used_memory"], info.get("maxmemory", 0)
    if not most:
        yield warning(
            _PART,
            f"it has no memory limit (it uses {_size(used)}): when the machine is full, the kernel kills it",
            "set maxmemory to what the machine can spare; producers then stop sending in time",
        )
    elif used > FILL * most:
        yield problem(_PART, f"it uses {_size(used)} of {_size(most)}: nothing more is sent", "collect finished runs, or raise maxmemory")
    elif used > _TIGHT * most:
        yield warning(_PART, f"it uses {_size(used)} of {_size(most)}", "collect finished runs, raise maxmemory, or lower --window")
    else:
        yield ok(_PART, f"it uses {_size(used)} of {_size(most)}")


def _persistence(info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok" or info.get("aof_last_bgrewrite_status", "ok") != "ok":
            yield problem(_PART, "its append-only file could not be written", "see its log, and free space on its disk")
        else:
            yield ok(_PART, "its append-only file is on")
        return
    yield warning(
        _PART,
        "its append-only file is off: a restart forgets rows and answers, which are then sent and paid for again",
        "CONFIG SET appendonly yes, and in its configuration",
    )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield problem(_PART, "its last snapshot failed, so it may refuse every write", "see its log, and free space on its disk")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
