"""What both command lines do alike: reading arguments, and one line with exit code 2 for a mistake."""

import json
import sys
from typing import Annotated, Any

import typer

from .errors import UserError
from .version import kotae_version

EXIT_USER_ERROR = 2
#: What Typer raises for arguments that it cannot read; newer releases carry their own click.
_UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"kotae {kotae_version() or '(not installed)'}")
        raise typer.Exit


#: An option that both command lines have.
VersionOption = Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say the version, and end.")]


def run_command_line(cli: typer.Typer, program: str) -> int:
    """Run a command line and return its exit code. A mistake of the user is one line on standard error."""
    try:
        return int(cli(prog_name=program, standalone_mode=False) or 0)
    except UserError as error:
        complain(program, str(error))
    except _UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            said = error.format_message().replace("Value error, ", "")  # type: ignore[attr-defined]  # pydantic's words through Typer
            complain(program, f"{said} (see {program} --help)")
    return EXIT_USER_ERROR


def complain(program: str, message: str) -> None:
    """Print a message as one line on standard error."""
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr, flush=True)


def parse_pairs(option: str, pairs: list[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` arguments as a dict. Raises UserError for one without a key or a value."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value:
            raise UserError(f"{option} {pair}: write it as KEY=VALUE")
        parsed[key.strip()] = value
    return parsed


def parse_values(option: str, pairs: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` arguments as a dict, values read as JSON where they are JSON and as text where not."""
    return {key.replace("-", "_"): _value(value) for key, value in parse_pairs(option, pairs).items()}


def warn_of_password(url: str, variable: str) -> None:
    """Warn of a password that everybody on this machine can read in the process list."""
    if url and ":" in url.rpartition("@")[0].partition("//")[2] and any(url in argument for argument in sys.argv):
        print(f"warning: the broker's password is visible in the process list; put it into {variable}_PASSWORD instead", file=sys.stderr)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
