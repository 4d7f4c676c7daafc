"""What Redis knows of the attempts at a row: whether it is settled, who is at it, and how often an engine ended over it."""

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import redis

from .contract import broker

#: A worker that is killed leaves its rows one death each; one that saw its engine die adds another, since then a row may be the cause.
ENGINE_DEATH = 2
#: Looks at rows of one run and takes those that are free, as one command: six that are sent together cost a worker twice the time.
#: KEYS: the run's generation, its stored rows, claims, deaths, and each row's result. ARGV: generation, who asks, seconds to keep it, rows.
_CLAIM = """
local superseded = tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or 0)
local standings = {}
for i = 4, #ARGV do
  local row = ARGV[i]
  local holder = redis.call('HGET', KEYS[3], row)
  local counted = redis.call('HMGET', KEYS[4], row, row .. ':alone')
  local settled = superseded or redis.call('GETBIT', KEYS[2], row) == 1 or redis.call('EXISTS', KEYS[i + 1]) == 1
  local taken = not holder and not settled
  if taken then
    holder = ARGV[2]
    redis.call('HSET', KEYS[3], row, holder)
    redis.call('HINCRBY', KEYS[4], row, 1)
    redis.call('EXPIRE', KEYS[3], ARGV[3])
    redis.call('EXPIRE', KEYS[4], ARGV[3])
  elseif not holder then
    redis.call('HDEL', KEYS[4], row, row .. ':alone')
  end
  standings[i - 3] = {settled and 1 or 0, holder or '', counted[1] or 0, counted[2] or 0, taken and 1 or 0}
end
return standings
"""


class Standing(NamedTuple):
    """How it stands with a row when a worker gets its message."""

    #: Nothing is left to do: the run was cancelled or asks anew, the answer is stored, or its result waits for the collector.
    settled: bool
    #: The incarnation of the worker that is at it; empty if nobody is.
    holder: str
    #: Ends of engines that had this row, weighed by ``ENGINE_DEATH``; and those of engines that had nothing else.
    deaths: int
    alone: int
    #: Nobody was at it, and whoever asked has taken it by this very question.
    taken: bool


class Attempts:
    """The attempts of one worker process (``me``: a name that no other process ever has) at the rows it gets."""

    def __init__(self, client: redis.Redis, me: str, patience: float = 1.5 * broker.HEARTBEAT) -> None:
        self._redis, self._me, self._patience = client, me, patience
        self._silent_since: dict[str, float] = {}
        self._claim = client.register_script(_CLAIM)

    def claim(self, task_id: str) -> Standing:
        """Claim a row if nobody has it, and return how it stands; it is ours if the holder is us and it is not settled.

        The row counts as begun from now on: if this process ends without another word, that is a death (see ``wait``).
        """
        return self.claim_all([task_id])[task_id]

    def claim_all(self, task_ids: Iterable[str]) -> dict[str, Standing]:
        """Claim several rows; those of one run cost little more than one."""
        standings: dict[str, Standing] = {}
        ids = sorted(set(task_ids), key=_run_of)
        for (run_id, generation), of_run in itertools.groupby(ids, key=_run_of):
            together = list(of_run)
            keys = [broker.generation_key(run_id), broker.stored_key(run_id, generation)]
            keys += [broker.claims_key(run_id, generation), broker.deaths_key(run_id, generation)]
            rows = [broker.parse_task_id(task_id)[1] for task_id in together]
            told = self._claim(
                keys=keys + [broker.result_key(task_id) for task_id in together],
                args=[generation, self._me, broker.STORED_TTL, *rows],
            )
            for task_id, (settled, holder, deaths, alone, taken) in zip(together, told, strict=True):
                standings[task_id] = Standing(bool(settled), holder.decode(), int(deaths), int(alone), bool(taken))
        return standings

    def release(self, task_id: str, holder: str) -> None:
        """Remove the claim of a worker that is no more; whoever claims the row next gets it."""
        run_id, row, generation = broker.parse_task_id(task_id)
        claims = broker.claims_key(run_id, generation)

        def remove(pipe: Any) -> None:
            held = pipe.hget(claims, str(row))
            pipe.multi()
            if held == holder.encode():
                pipe.hdel(claims, str(row))

        self._redis.transaction(remove, claims)

    def is_gone(self, served_name: str, holder: str) -> bool:
        """Say whether the process behind a claim is no more: another one has its name, or nobody has heard of it for long enough.

        After an outage of Redis nobody has been heard of for a moment.
        """
        presence = cast(bytes | None, self._redis.get(broker.presence_key(served_name, holder.rpartition("#")[0])))
        if presence is not None:
            self._silent_since.pop(holder, None)
            return bool(json.loads(presence)["incarnation"] != holder)
        now = time.monotonic()
        return now - self._silent_since.setdefault(holder, now) >= self._patience

    def wait(self, task_id: str) -> None:
        """Write down that the engine does not have the row yet."""
        with self._transaction() as pipe:
            _count(pipe, task_id, -1, alone=False)

    def begin(self, task_id: str, *, alone: bool) -> None:
        """Write down that the engine gets a row that had to wait."""
        with self._transaction() as pipe:
            _count(pipe, task_id, 1, alone=alone)

    def give_back(self, task_id: str, *, begun: bool, alone: bool) -> None:
        """Let go of a row that others shall answer; the engine was not hurt."""
        with self._transaction() as pipe:
            if begun:
                _count(pipe, task_id, -1, alone=alone)
            _forget(pipe, task_id, deaths=False)

    def blame(self, task_id: str, *, alone: bool) -> None:
        """Let go of a row that the engine had when it died."""
        with self._transaction() as pipe:
            _count(pipe, task_id, ENGINE_DEATH - 1, alone=alone)
            _forget(pipe, task_id, deaths=False)

    def end(self, task_id: str) -> None:
        """Forget what was noted of a row that nobody will collect; of others the collector forgets it with the result."""
        with self._transaction() as pipe:
            _forget(pipe, task_id, deaths=True)

    def withdraw_late(self, task_ids: Iterable[str]) -> None:
        """Remove results that nobody would collect, stored after their row was settled: we were cut off, or the run was cancelled.

        Asked after the results are stored, since the collector marks a row as stored in the transaction that removes its result.
        """
        ids = list(task_ids)
        if not ids:
            return
        late = set(self.superseded(ids))
        pipe = self._redis.pipeline(transaction=False)
        for run_id, row, generation in map(broker.parse_task_id, ids):
            pipe.getbit(broker.stored_key(run_id, generation), row)
        late.update(task_id for task_id, stored in zip(ids, pipe.execute(), strict=True) if stored)
        for task_id in late:
            pipe.unlink(broker.result_key(task_id))
            _forget(pipe, task_id, deaths=True)
        pipe.execute()

    def superseded(self, task_ids: Iterable[str]) -> list[str]:
        """Return those of the rows whose run was cancelled or asks anew by now."""
        ids = list(task_ids)
        runs = sorted({broker.parse_task_id(task_id)[0] for task_id in ids})
        values = cast(list[bytes | None], self._redis.mget([broker.generation_key(run) for run in runs])) if runs else []
        current = {run: int(value or 0) for run, value in zip(runs, values, strict=True)}
        return [task_id for task_id in ids if (parsed := broker.parse_task_id(task_id))[2] < current[parsed[0]]]

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        pipe = self._redis.pipeline(transaction=True)
        yield pipe
        pipe.execute()


def _run_of(task_id: str) -> tuple[str, int]:
    run_id, _, generation = broker.parse_task_id(task_id)
    return run_id, generation


def _count(pipe: Any, task_id: str, by: int, *, alone: bool) -> None:
    run_id, row, generation = broker.parse_task_id(task_id)
    pipe.hincrby(broker.deaths_key(run_id, generation), str(row), by)
    if alone:
        pipe.hincrby(broker.deaths_key(run_id, generation), f"{row}:alone", by)


def _forget(pipe: Any, task_id: str, *, deaths: bool) -> None:
    run_id, row, generation = broker.parse_task_id(task_id)
    pipe.hdel(broker.claims_key(run_id, generation), str(row))
    if deaths:
        pipe.hdel(broker.deaths_key(run_id, generation), str(row), f"{row}:alone")
