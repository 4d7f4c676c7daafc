"""``kotae-worker``: reads its arguments, puts them into the environment of its worker processes, supervises those."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .contract.broker import broker_settings, connect
from .contract.command_line import VersionOption, parse_pairs, parse_values, run_command_line, warn_of_password
from .contract.processes import end_with_parent
from .fleet import choose_gpus, group_gpus, supervise
from .settings import worker_settings

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def main(
    model: Annotated[str, typer.Option(envvar="KOTAE_MODEL", help="Folder of a model, its name on a hub, or 'demo'.")] = "demo",
    engine: Annotated[
        str, typer.Option(envvar="KOTAE_ENGINE", help="vllm, unsloth, openai (an endpoint), or echo (no model: for tests).")
    ] = "vllm",
    base_url: Annotated[
        str, typer.Option(envvar="KOTAE_BASE_URL", help="With --engine openai: the endpoint, https://host/v1; the key in OPENAI_API_KEY.")
    ] = "",
    name: Annotated[str, typer.Option(envvar="KOTAE_NAME", help="What producers call this model; by default the model as given.")] = "",
    broker: Annotated[str, typer.Option(envvar="KOTAE_BROKER", help="redis://host:port/db; password in KOTAE_BROKER_PASSWORD.")] = "",
    gpus: Annotated[str, typer.Option(envvar="KOTAE_GPUS", help="all, none, auto (all there are, or the CPU), or a list: 0,1.")] = "auto",
    tensor_parallel_size: Annotated[
        int, typer.Option(envvar="KOTAE_TENSOR_PARALLEL_SIZE", min=1, help="GPUs that share one model; so many make one worker.")
    ] = 1,
    quantization: Annotated[str, typer.Option(envvar="KOTAE_QUANTIZATION", help="How vLLM makes the weights smaller: fp8, ...")] = "",
    adapter: Annotated[list[str] | None, typer.Option(help="A LoRA adapter that rows may name: NAME=FOLDER, or NAME=MODEL there.")] = None,
    engine_arg: Annotated[list[str] | None, typer.Option(help="An argument of the engine: KEY=VALUE. Repeatable.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(envvar="KOTAE_MAX_IN_FLIGHT", help="Rows taken and not yet answered.")] = None,
    drain_seconds: Annotated[float, typer.Option(envvar="KOTAE_DRAIN_SECONDS", help="Seconds that running rows get at a stop.")] = 30.0,
    hang_seconds: Annotated[
        float, typer.Option(envvar="KOTAE_HANG_SECONDS", help="Seconds without a step of a busy engine after which it counts as dead.")
    ] = 180.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(envvar="KOTAE_METRICS_PORT", min=1, max=65535, help="Serve the Prometheus metrics of all workers of this host here."),
    ] = None,
    metrics_host: Annotated[str, typer.Option(envvar="KOTAE_METRICS_HOST", help="Address on which metrics are served.")] = "127.0.0.1",
    metrics_tls: Annotated[
        Path | None, typer.Option(envvar="KOTAE_METRICS_TLS", help="Folder with cert.pem, key.pem, ca.pem: serve them by HTTPS only.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(envvar="KOTAE_LEDGER", help="File in which the engine writes every row it starts.")] = None,
    log_level: Annotated[LogLevel, typer.Option(envvar="KOTAE_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")] = "WARNING",
    version: VersionOption = False,  # noqa: ARG001  # its callback ends the program
) -> None:
    """Answer questions: one worker process per GPU, or one on the CPU."""
    end_with_parent()
    warn_of_password(broker, "KOTAE_BROKER")
    there = str if engine == "openai" else _absolute  # at an endpoint no name is a folder
    # The worker processes read their settings from the environment, as those of a plain `celery worker` do.
    os.environ |= {"KOTAE_MODEL": there(model), "KOTAE_ENGINE": engine, "KOTAE_NAME": name}
    os.environ |= {"KOTAE_DRAIN_SECONDS": str(drain_seconds), "KOTAE_HANG_SECONDS": str(hang_seconds)}
    if broker:
        os.environ["KOTAE_BROKER"] = broker
    if adapter:
        os.environ["KOTAE_ADAPTERS"] = json.dumps({key: there(path) for key, path in parse_pairs("--adapter", adapter).items()})
    if engine_arg:
        os.environ["KOTAE_ENGINE_ARGS"] = json.dumps(parse_values("--engine-arg", engine_arg))
    if given := _engine_options(tensor_parallel_size, quantization, base_url):
        os.environ["KOTAE_ENGINE_ARGS"] = json.dumps(worker_settings().engine_args | given)
    if max_in_flight is not None:
        os.environ["KOTAE_MAX_IN_FLIGHT"] = str(max_in_flight)
    if ledger is not None:
        os.environ["KOTAE_LEDGER"] = str(ledger.absolute())
    os.environ["KOTAE_METRICS_HOST"] = metrics_host
    if metrics_port is not None:
        os.environ["KOTAE_METRICS_PORT"] = str(metrics_port)
    if metrics_tls is not None:
        os.environ["KOTAE_METRICS_TLS"] = str(metrics_tls.absolute())
    settings = worker_settings()
    connect(broker_settings()).close()
    chosen = [] if settings.engine in ("echo", "openai") else choose_gpus(gpus)
    groups = group_gpus(chosen, settings.engine_args.get("tensor_parallel_size", 1))
    raise typer.Exit(supervise(settings, groups, log_level))


def _engine_options(tensor_parallel_size: int, quantization: str, base_url: str) -> dict[str, Any]:
    """Return the engine arguments that have an option of their own."""
    given: dict[str, Any] = {"tensor_parallel_size": tensor_parallel_size} if tensor_parallel_size > 1 else {}
    given |= {"quantization": quantization} if quantization else {}
    return given | ({"base_url": base_url} if base_url else {})


def _absolute(path: str) -> str:
    """Worker processes run in a folder of their own; what is no folder here is a name."""
    folder = Path(path).expanduser()
    return str(folder.absolute()) if folder.is_dir() else path


def run() -> None:
    """Run the command line (console script)."""
    sys.exit(run_command_line(cli, "kotae-worker"))


if __name__ == "__main__":
    run()
