"""What the doctor looks at in the fleet: who lives, whether they understand us and each other, and rows that nobody would take."""

from collections import Counter
from collections.abc import Iterator
from typing import cast

from workers.contract.broker import CONTRACT_VERSION, MAX_CLOCK_SKEW, clock_skew, explaining, parse_queue_name
from workers.contract.messages import Presence
from workers.contract.version import kotae_version

from ..transport import Transport
from .finding import Finding, ok, problem, warning

_PART = "workers"
#: Share of the clock skew at which workers refuse from which on it is told.
_SKEWED = 0.4


def look_at_fleet(transport: Transport) -> Iterator[Finding]:
    """Look at workers and queues. Raises BrokerError."""
    present = transport.present()
    if not present:
        yield warning(_PART, "none gives a sign of life", "start one where a GPU is: kotae-worker --model MODEL --name NAME --broker URL")
    for served_name in sorted({worker.served_name for worker in present}):
        yield from _model(transport, served_name, [worker for worker in present if worker.served_name == served_name])
    yield from _versions(present)
    with explaining(transport.settings):
        here = clock_skew(transport.redis)
    yield from _clocks(present, here)
    yield from _queues(transport, present)


def _model(transport: Transport, served_name: str, workers: list[Presence]) -> Iterator[Finding]:
    hosts, taking = len({worker.host for worker in workers}), [worker for worker in workers if not worker.leaving]
    identity = transport.identity(workers[0].fingerprint)
    what = f", {identity.model} by {identity.engine} {identity.engine_version}" if identity else ""
    count = f"{len(workers)} on {hosts} host{'s' if hosts > 1 else ''}"
    if taking:
        yield ok(_PART, f"{served_name}: {count}{what}")
    else:
        yield warning(_PART, f"{served_name}: {count}{what}, all of which are stopping", "start others before rows are asked")
    fingerprints = Counter(worker.fingerprint for worker in workers)
    if len(fingerprints) > 1:
        them = ", ".join(f"{fingerprint} ({times})" for fingerprint, times in fingerprints.most_common())
        yield problem(
            _PART,
            f"{served_name} is served with different models (fingerprints {them}): answers of one run would be mixed",
            "stop the workers of one of them, or give them a --name of their own",
        )


def _versions(workers: list[Presence]) -> Iterator[Finding]:
    for contract in sorted({worker.contract for worker in workers} - {CONTRACT_VERSION}):
        names = [worker.worker for worker in workers if worker.contract == contract]
        older = "workers" if contract < CONTRACT_VERSION else "this kotae"
        yield problem(
            _PART,
            f"{_listed(names)} speak contract {contract}, this kotae speaks {CONTRACT_VERSION}: rows of the one never reach the other",
            f"upgrade the older side, which is {older}",
        )
    versions = {worker.kotae for worker in workers if worker.contract == CONTRACT_VERSION} - {""}
    if versions - {kotae_version()}:
        yield warning(
            _PART,
            f"they are of Kotae {', '.join(sorted(versions))}, this is {kotae_version()}",
            "upgrade workers and producers together where it is easy; they understand each other",
        )


def _clocks(workers: list[Presence], here: float) -> Iterator[Finding]:
    if abs(here) > MAX_CLOCK_SKEW:
        yield problem(_PART, f"this machine's clock differs from the broker's by {here:+.1f} s: no worker starts here", "set both by NTP")
    clocks = {worker.host: worker.clock_skew for worker in workers} | ({"this machine": here} if abs(here) <= MAX_CLOCK_SKEW else {})
    skewed = {host: skew for host, skew in clocks.items() if abs(skew) > _SKEWED * MAX_CLOCK_SKEW}
    if skewed:
        told = ", ".join(f"{host} by {skew:+.1f} s" for host, skew in sorted(skewed.items()))
        yield warning(_PART, f"clocks differ from the broker's: {told}; from {MAX_CLOCK_SKEW:g} s on workers refuse", "set them by NTP")
    elif clocks:
        most = max(abs(skew) for skew in clocks.values())
        yield ok(_PART, f"clocks are within {max(most, 0.1):.1f} s of the broker's, here and there")


def _queues(transport: Transport, workers: list[Presence]) -> Iterator[Finding]:
    """Find rows that wait where no worker takes any: of a served name that nobody serves, or of another contract version."""
    waiting: Counter[tuple[int, str]] = Counter()
    with explaining(transport.settings):
        keys = [cast(bytes, key).decode() for key in transport.redis.scan_iter(match="kotae.[0-9]*.*", count=1000, _type="list")]
    for name, length in transport.queue_lengths(keys).items() if keys else ():
        if known := parse_queue_name(name):
            waiting[known] += length
    taken = {(worker.contract, worker.served_name) for worker in workers if not worker.leaving}
    for (contract, served_name), rows in sorted(waiting.items()):
        if (contract, served_name) in taken:
            yield ok(_PART, f"{served_name}: rows that wait: {rows:,}")
        elif contract == CONTRACT_VERSION:
            yield problem(
                _PART,
                f"rows that wait for {served_name}, which no worker serves: {rows:,}",
                f"start one with --name {served_name}, or give the run up: kotae cancel RUN",
            )
        else:
            yield problem(
                _PART,
                f"rows for {served_name} on queues of contract {contract}, of which no worker is there: {rows:,}",
                "start a worker of that version for them, or go on with their run by this kotae, which sends them again on its own queues;"
                f" then remove what is left: UNLINK kotae.{contract}.{served_name}.*",
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
