"""What an ACL keeps from us: each command that Kotae needs is tried on keys and channels of the kinds it is needed for."""

import uuid
from collections.abc import Callable
from typing import Any

import redis

from workers.contract import broker

#: A script, as a worker's fetch of rows and a producer's lease are.
_SCRIPT = "return redis.call('LLEN', KEYS[1])"


def denied(client: "redis.Redis") -> list[str]:
    """Return the commands that this user may not use, with what they were tried on. Nothing of what is tried stays, or touches a row."""
    refused = []
    run_id = f"doctor-{uuid.uuid4().hex}"
    for name, attempt in _attempts(client, run_id):
        try:
            attempt()
        except redis.exceptions.NoPermissionError:
            refused.append(name)
        except redis.exceptions.ResponseError:
            pass  # full, or a replica: other findings say so
    return refused


def _attempts(client: Any, run_id: str) -> list[tuple[str, Callable[[], Any]]]:
    (queue, *_), bits = broker.queue_names(run_id), broker.stored_key(run_id, 0)
    claims, result = broker.claims_key(run_id, 0), broker.result_key(f"{run_id}:0:0")
    lease, nobody = broker.lease_key(run_id), f"kotae.{run_id}"
    index, binding = "unacked_index", "_kombu.binding.kotae"
    return [
        ("LPUSH and LLEN on queues", lambda: (client.lpush(queue, "x"), client.llen(queue))),
        ("LRANGE on queues", lambda: client.lrange(queue, 0, 0)),
        ("EVAL and EVALSHA on queues", lambda: (client.eval(_SCRIPT, 1, queue), client.register_script(_SCRIPT)(keys=[queue]))),
        ("RPOP on queues", lambda: client.rpop(queue)),
        ("BRPOP on queues", lambda: client.brpop([queue], 0.01)),
        ("SETBIT and GETBIT on kotae.*", lambda: (client.setbit(bits, 0, 1), client.getbit(bits, 0))),
        ("EXPIRE and PTTL on kotae.*", lambda: (client.expire(bits, 60), client.pttl(bits))),
        ("HSETNX, HINCRBY, HMGET and HDEL on kotae.*", lambda: _use_hash(client, claims)),
        ("SET, GET, MGET and EXISTS on results", lambda: _use_result(client, result)),
        ("MULTI and EXEC", lambda: client.pipeline(transaction=True).setbit(bits, 1, 1).execute()),
        ("WATCH", lambda: client.transaction(lambda pipe: pipe.multi(), lease)),
        ("UNLINK and DEL", lambda: (client.unlink(queue, bits, claims), client.delete(result))),
        ("SCAN", lambda: client.scan(match=nobody)),
        ("TIME", client.time),
        ("HSET, HDEL and HSCAN on unacked", lambda: (client.hdel(broker.UNACKED, nobody), client.hscan(broker.UNACKED, match=nobody))),
        ("ZADD, ZREM and ZREVRANGEBYSCORE on unacked_index", lambda: _use_index(client, index, nobody)),
        ("SADD and SMEMBERS on _kombu.binding.*", lambda: (client.srem(binding, nobody), client.smembers(binding))),
        ("PUBLISH", lambda: client.publish(result, "")),  # where nobody listens; it is for Celery's events
        ("SUBSCRIBE to Celery's events and control", lambda: _subscribe(client, run_id)),
    ]


def _use_hash(client: Any, key: str) -> None:
    client.hsetnx(key, "x", "1")
    client.hincrby(key, "x", 1)
    client.hmget(key, ["x"])
    client.hdel(key, "x")


def _use_result(client: Any, key: str) -> None:
    client.set(key, "x", ex=60)
    client.get(key)
    client.mget([key])
    client.exists(key)


def _use_index(client: Any, key: str, nobody: str) -> None:
    client.zadd(key, {nobody: 0}, xx=True)
    client.zrem(key, nobody)
    client.zrevrangebyscore(key, 0, 0, start=0, num=1)


def _subscribe(client: Any, run_id: str) -> None:
    database = client.connection_pool.connection_kwargs.get("db", 0)
    with client.pubsub() as listener:
        listener.subscribe(f"/{database}.celeryev/{run_id}", f"/{database}.celery.pidbox.{run_id}")
        listener.parse_response(timeout=5)
