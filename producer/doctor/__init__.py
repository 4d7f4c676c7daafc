"""``kotae doctor``: what is reachable, installed and misconfigured, each finding with what to do."""

import contextlib
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from workers.contract.broker import broker_settings
from workers.contract.errors import BrokerError

from ..desk import Desk
from ..transport import Transport
from .broker import look_at_broker
from .finding import Finding, Level, ok, problem
from .fleet import look_at_fleet
from .home import look_at_home
from .machine import look_at_machine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


def doctor(broker: str | None, desk: Desk) -> int:
    """Look at everything, say what was found, and return 1 if there is a problem, else 0. ``broker`` is a URL, or None for no broker."""
    findings = [*_look_at_redis(broker), *look_at_machine(), *look_at_home(desk.home)]
    table = Table("", "part", "finding", box=None, pad_edge=False, show_header=False)
    for finding in findings:
        said = Text(finding.says)
        if finding.do:
            said.append(f"\n→ {finding.do}", style="bold")
        table.add_row(Text(finding.level, style=_COLOURS[finding.level]), finding.part, said)
    desk.console.print(table)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    desk.say(f"problems: {counts[Level.PROBLEM]}, warnings: {counts[Level.WARNING]}")
    desk.tell(
        {
            "problems": counts[Level.PROBLEM],
            "warnings": counts[Level.WARNING],
            "findings": [finding._asdict() for finding in findings],
        }
    )
    return 1 if counts[Level.PROBLEM] else 0


def _look_at_redis(broker: str | None) -> Iterator[Finding]:
    if broker is None:
        yield ok("broker", "none is named (--broker, KOTAE_BROKER): `kotae run` starts one of its own")
        return
    try:
        with contextlib.closing(Transport(broker_settings(broker))) as transport:
            yield from look_at_broker(transport)
            yield from look_at_fleet(transport)
    except BrokerError as error:
        what = "see that the server runs, that this machine may reach it, and that URL and password are right"
        trust = "; with TLS, that the URL names the certificate to trust: ?ssl_ca_certs=FILE" if "rediss://" in str(error) else ""
        yield problem("broker", str(error), what + trust)
