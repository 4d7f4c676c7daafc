"""A worker whose echo engine says that it is another model; started as a program by a test."""

from workers.contract.messages import ModelIdentity
from workers.engines.echo_engine import EchoEngine
from workers.tasks import app

start = EchoEngine.start


async def start_as_another(self: EchoEngine) -> ModelIdentity:
    return (await start(self)).model_copy(update={"weights": "other"})


if __name__ == "__main__":
    EchoEngine.start = start_as_another  # type: ignore[method-assign]
    app.worker_main(["--quiet", "worker", "--hostname", "other@tests"])
