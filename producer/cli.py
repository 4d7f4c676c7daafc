"""``kotae``: reads arguments, calls one function, prints one line where something is wrong."""

import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# The help must come at once: what is heavy is imported by the command that needs it.
from workers.contract.command_line import VersionOption, complain, parse_values, run_command_line, warn_of_password
from workers.contract.errors import KotaeError

from .analysis.preferences.options import PairOptions
from .interrupt import interruptible
from .options import AskOptions, DeskOptions, LocalOptions, MeasuringOptions, PartialEvery, seconds, spread

if TYPE_CHECKING:
    from .commands import Target
    from .desk import Desk

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Answer a workbook of questions with a language model, on as many GPUs as there are.",
)


@cli.callback()
def _options(version: VersionOption = False) -> None:
    pass


Workbook = Annotated[Path, typer.Argument(help="The file with the questions: .xlsx, .xlsm, .xls, .ods, .csv, .tsv, .jsonl or .parquet.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        envvar="KOTAE_OUTPUT",
        help="The file to write: .xlsx, .csv, .tsv, .jsonl or .parquet; by default NAME-answers.xlsx here.",
    ),
]
CollectedOutput = Annotated[
    Path, typer.Option("--output", "-o", envvar="KOTAE_OUTPUT", help="The file to write: .xlsx, .csv, .tsv, .jsonl or .parquet.")
]
Broker = Annotated[str | None, typer.Option(envvar="KOTAE_BROKER", help="redis://host:port/db; password in KOTAE_BROKER_PASSWORD.")]
Model = Annotated[
    str | None, typer.Option(envvar="KOTAE_MODEL", help="With a broker a served name; without, a model's folder or hub name.")
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        envvar="KOTAE_MODEL",
        help="With a broker a served name; without, a model's folder or hub name. Repeatable: the answers stand side by side.",
    ),
]
Adapter = Annotated[str | None, typer.Option(envvar="KOTAE_ADAPTER", help="With a broker a LoRA adapter's name; without, its folder.")]
GPUHourPrice = Annotated[
    float | None,
    typer.Option(envvar="KOTAE_GPU_HOUR_PRICE", min=0, help="What a GPU costs an hour, in any currency; shows what rows cost."),
]
Sources = Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, by id, its beginning or 'last', or columns: FILE:COLUMN.")]
Run = Annotated[str, typer.Argument(help="The run's id or its beginning, or 'last'.")]


@cli.command("run")
@spread
def run_workbook(
    workbook: Workbook,
    ask: AskOptions,
    local: LocalOptions,
    desk: DeskOptions,
    output: Output = None,
    broker: Broker = None,
    model: Models = None,
    adapter: Adapter = None,
    wait_for_worker: Annotated[str, typer.Option(envvar="KOTAE_WAIT_FOR_WORKER", help="How long to wait for a worker: 30s, 2m.")] = "2m",
    partial_every: PartialEvery = None,
) -> None:
    """Answer a workbook and write another one with the answers. Run again, it resumes.

    With several models: one run for each, and all answers side by side.

    Without --broker: on an embedded server, with local workers, one per GPU or one on the CPU.
    """
    from . import commands
    from .partial import Output

    patience = seconds("--wait-for-worker", wait_for_worker)
    ending = ".xlsm" if ask.keep_format and workbook.suffix.lower() == ".xlsm" else ".xlsx"
    out = output or Path(f"{workbook.stem}-answers{ending}")
    output_of_run = Output(out, _every(partial_every))
    targets = [_target(broker, name, adapter, local) for name in _models(model)]
    if len(targets) > 1:
        from .several import run_several

        raise typer.Exit(run_several(workbook, ask, targets, output_of_run, patience, _desk(desk)))
    raise typer.Exit(commands.run(workbook, ask, targets[0], output_of_run, patience, _desk(desk)))


@cli.command()
@spread
def submit(
    workbook: Workbook,
    ask: AskOptions,
    desk: DeskOptions,
    broker: Broker = None,
    model: Model = None,
    adapter: Adapter = None,
    detached: Annotated[
        bool, typer.Option("--detach", envvar="KOTAE_DETACH", help="Leave at once; a process in the background feeds and collects.")
    ] = False,
) -> None:
    """Put a workbook's rows on a broker, and leave once all of them are there; `kotae collect` writes the workbook."""
    from . import commands

    raise typer.Exit(commands.submit(workbook, ask, _target(broker, model, adapter, LocalOptions()), detached, _desk(desk)))


@cli.command()
@spread
def retry(
    run: Annotated[
        str, typer.Argument(help="The run's id or its beginning, 'last', or a workbook of the run: its sheet Errors says which rows.")
    ],
    desk: DeskOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", envvar="KOTAE_OUTPUT", help="The workbook to write; of a workbook NAME-retried.xlsx.")
    ] = None,
    broker: Broker = None,
    malformed: Annotated[bool, typer.Option("--malformed", envvar="KOTAE_MALFORMED", help="Also replies that broke the format.")] = False,
    truncated: Annotated[bool, typer.Option("--truncated", envvar="KOTAE_TRUNCATED", help="Also replies cut off at max-tokens.")] = False,
    temperature: Annotated[
        float | None, typer.Option(envvar="KOTAE_RETRY_TEMPERATURE", help="For these rows, in place of the run's.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(envvar="KOTAE_LEDGER", help="As in run.")] = None,
    wait_for_worker: Annotated[str, typer.Option(envvar="KOTAE_WAIT_FOR_WORKER", help="How long to wait for a worker: 30s, 2m.")] = "2m",
    partial_every: PartialEvery = None,
) -> None:
    """Ask the rows of a run anew that failed, timed out or were rejected, and write its workbook."""
    from . import anew, commands

    _warn(broker)
    again = anew.Again(malformed, truncated, temperature)
    patience = seconds("--wait-for-worker", wait_for_worker)
    raise typer.Exit(commands.retry(run, again, broker, ledger, output, _every(partial_every), patience, _desk(desk)))


@cli.command()
@spread
def cancel(run: Run, desk: DeskOptions, broker: Broker = None) -> None:
    """Stop a run everywhere within seconds; what is answered is kept, and the same command asks the rest after all."""
    from . import manage

    _warn(broker)
    raise typer.Exit(manage.cancel(run, broker, _desk(desk)))


@cli.command(hidden=True)
@spread
def feed(run: Run, desk: DeskOptions, broker: Broker = None) -> None:
    """Feed and collect a run until it is done: what `submit --detach` leaves behind."""
    from . import manage

    raise typer.Exit(manage.feed(run, broker, _desk(desk)))


@cli.command()
@spread
def collect(
    run: Run,
    desk: DeskOptions,
    output: CollectedOutput,
    broker: Broker = None,
    partial: Annotated[bool, typer.Option("--partial", envvar="KOTAE_PARTIAL", help="Do not wait: write what there is by now.")] = False,
    partial_every: PartialEvery = None,
) -> None:
    """Wait for a run that was submitted, and write its workbook."""
    from . import manage
    from .partial import Output

    _warn(broker)
    raise typer.Exit(manage.collect(run, broker, Output(output, _every(partial_every)), partial, _desk(desk)))


@cli.command()
@spread
def status(
    desk: DeskOptions,
    run: Annotated[str | None, typer.Argument(help="A run; by default all.")] = None,
    broker: Broker = None,
    gpu_hour_price: GPUHourPrice = None,
) -> None:
    """Show how far runs are, how fast they go and what they cost and, with a broker, who answers."""
    from . import watching

    _warn(broker)
    raise typer.Exit(watching.status(run, broker, gpu_hour_price, _desk(desk)))


@cli.command()
@spread
def watch(run: Run, desk: DeskOptions, broker: Broker = None, gpu_hour_price: GPUHourPrice = None) -> None:
    """Show a run and, with a broker, the fleet, until the run is finished. Ctrl-C stops watching, and nothing else."""
    from . import watching

    _warn(broker)
    raise typer.Exit(watching.watch(run, broker, gpu_hour_price, _desk(desk)))


@cli.command("doctor")
@spread
def see_the_doctor(desk: DeskOptions, broker: Broker = None) -> None:
    """Look at broker, workers, this machine and the home, and say what is wrong and what to do; exit code 1 if there is a problem."""
    from .doctor import doctor

    _warn(broker)
    raise typer.Exit(doctor(broker, _desk(desk)))


@cli.command()
def metrics(
    port: Annotated[int, typer.Option(envvar="KOTAE_METRICS_PORT", min=1, max=65535, help="Serve them here.")] = 9464,
    host: Annotated[str, typer.Option(envvar="KOTAE_METRICS_HOST", help="The address for that.")] = "127.0.0.1",
    tls: Annotated[
        Path | None, typer.Option(envvar="KOTAE_METRICS_TLS", help="Folder with cert.pem, key.pem, ca.pem: serve them by HTTPS only.")
    ] = None,
    broker: Broker = None,
) -> None:
    """Serve Prometheus metrics of the broker: rows that wait and workers that live, by served name."""
    from .broker_metrics import serve

    _warn(broker)
    raise typer.Exit(serve(broker, host, port, tls))


@cli.command()
@spread
def pairs(
    desk: DeskOptions,
    wanted: PairOptions,
    output: Annotated[Path, typer.Option("--output", "-o", envvar="KOTAE_OUTPUT", help="The data set: .jsonl, .parquet or .xlsx.")],
    sources: Annotated[
        list[str] | None, typer.Argument(help="Runs (id, its beginning, 'last') or columns of a workbook, as FILE:COLUMN[:REASONING].")
    ] = None,
) -> None:
    """Make preference pairs (prompt, chosen, rejected) for ORPO and DPO, with a dataset card."""
    from .analysis.preferences.pairs import pairs

    raise typer.Exit(pairs(sources or [], wanted, output, _desk(desk)))


@cli.command()
@spread
def runs(desk: DeskOptions, delete: Annotated[str | None, typer.Option(metavar="RUN", help="Delete this run.")] = None) -> None:
    """List the runs of this home, or delete one."""
    from . import manage

    raise typer.Exit(manage.runs(delete, _desk(desk)))


@cli.command()
@spread
def stats(
    sources: Sources,
    desk: DeskOptions,
    measuring: MeasuringOptions,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", envvar="KOTAE_PLOTS", help="Write charts here, as .svg.")] = None,
) -> None:
    """Measure replies: yield, what broke the format, lengths, repetition, language, duplicates, time and, with --gold, accuracy."""
    from .analysis.stats import Asked
    from .analysis.stats import stats as measured

    raise typer.Exit(measured(Asked(sources, **vars(measuring)), plots, _desk(desk)))


@cli.command()
@spread
def report(
    sources: Sources,
    desk: DeskOptions,
    measuring: MeasuringOptions,
    output: Annotated[Path, typer.Option("--output", "-o", envvar="KOTAE_OUTPUT", help="The page to write: .html.")] = Path("report.html"),
) -> None:
    """Write one HTML page: where the answers come from, what they amount to, charts, best and worst cases."""
    from .analysis.report import report as write
    from .analysis.stats import Asked

    raise typer.Exit(write(Asked(sources, **vars(measuring)), output, _desk(desk)))


@cli.command("compare")
@spread
def compare_sources(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Runs, or FILE:COLUMN; at least two.")],
    desk: DeskOptions,
    output: Annotated[
        Path, typer.Option("--output", "-o", envvar="KOTAE_OUTPUT", help="A workbook (.xlsx), or a page to read and judge on (.html).")
    ] = Path("comparison.html"),
    join: Annotated[
        str | None, typer.Option(envvar="KOTAE_JOIN", metavar="COLUMN", help="Join rows by the values of this column, not row by row.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(envvar="KOTAE_SHEET", help="The sheet of the files, if several have questions.")] = None,
    question_column: Annotated[str | None, typer.Option(envvar="KOTAE_QUESTION_COLUMN", help="The files' column of questions.")] = None,
) -> None:
    """Put the answers of several runs, or columns of workbooks, side by side: as a workbook, or as a page to judge them on."""
    from .analysis.compare import compare

    raise typer.Exit(compare(sources, output, join, sheet, question_column, _desk(desk)))


def run() -> None:
    """Run the command line (console script)."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no Japanese is no reason to stop
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("kombu").setLevel(logging.CRITICAL)  # what it would say comes back to us as an exception
    try:
        with interruptible():
            code = run_command_line(cli, "kotae")
    except KotaeError as error:
        complain("kotae", str(error))
        code = EXIT_FAILED
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        complain("kotae", "interrupted; what is answered is stored, and the same command resumes")
    sys.exit(code)


def _target(broker: str | None, model: str | None, adapter: str | None, local: LocalOptions) -> "Target":
    from .commands import Target

    _warn(broker)
    given = parse_values("--engine-arg", local.engine_arg or []) | ({"base_url": local.base_url} if local.base_url else {})
    return Target(broker, model, adapter, local.engine, given, local.ledger)


def _models(given: list[str] | None) -> list[str | None]:
    """Return the models that were named, or None for the only one; the variable names one, also if there are spaces in it."""
    variable = os.environ.get("KOTAE_MODEL", "")
    if given and given == variable.split():
        return [variable]
    return list(given) if given else [None]


def _every(text: str | None) -> float | None:
    return None if text is None else seconds("--partial-every", text)


def _warn(broker: str | None) -> None:
    if broker:
        warn_of_password(broker, "KOTAE_BROKER")


def _desk(options: DeskOptions) -> "Desk":
    from rich.console import Console

    from .desk import Desk

    # Words for people go to standard error where standard output belongs to a program.
    return Desk(options.home, Console(stderr=options.as_json, markup=False, width=None if sys.stderr.isatty() else 200), options.as_json)


if __name__ == "__main__":
    run()
