"""What several measurements ask for on the command line; a value that is none is one line, and not a traceback."""

import argparse
from collections.abc import Sequence
from typing import Any

from producer.local import DEMO
from workers.contract.command_line import parse_values
from workers.contract.errors import UserError

#: Engines that a fleet of a measurement may have; on the queue alone ``echo`` is enough.
WITH_ECHO = ("vllm", "unsloth", "echo")


def add_engine(options: argparse.ArgumentParser, engines: Sequence[str] = ("vllm", "unsloth")) -> None:
    """Ask which model answers, loaded how. ``engine_args`` is a list of pairs, for dict()."""
    options.add_argument("--model", default=DEMO)
    options.add_argument("--engine", default="vllm", choices=engines)
    options.add_argument(
        "--engine-arg", dest="engine_args", action="append", type=_engine_arg, default=[], metavar="KEY=VALUE", help="as for kotae-worker"
    )


def add_gpus(options: argparse.ArgumentParser, default: str = "") -> None:
    """Ask which GPUs have workers."""
    options.add_argument("--gpus", default=default, help="ids with commas between them; empty ones are workers on the CPU")


def add_lengths(options: argparse.ArgumentParser, mean: int = 250, longest: int = 1024) -> None:
    """Ask how long replies are: lognormal, or all of one length where the mean is not below the longest."""
    options.add_argument("--mean-tokens", type=at_least_one, default=mean)
    options.add_argument("--max-tokens", type=at_least_one, default=longest)


def at_least_one(text: str) -> int:
    """Read how many of something there are: one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _engine_arg(text: str) -> tuple[str, Any]:
    try:
        ((key, value),) = parse_values("--engine-arg", [text]).items()
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return key, value
