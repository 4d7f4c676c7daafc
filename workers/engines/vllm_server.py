"""The far side of ``vllm_process``: owns a synchronous vLLM engine, takes orders, steps, and reports. Many rows share its batch.

Nothing heavy is imported before the engine is loaded: Unsloth must come before vLLM.
"""

import pkgutil
import signal
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.contract.errors import EngineDead, EngineError, Failed, UserError

from . import Sample

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine


class Loader(NamedTuple):
    """What loads the model: it is imported in the process that is to own the engine, and not before."""

    #: ``package.module:function``, which returns an ``LLMEngine`` and raises UserError or EngineDead.
    function: str
    model: str
    #: Engine arguments.
    args: dict[str, Any]

    def __call__(self) -> "LLMEngine":
        engine: LLMEngine = pkgutil.resolve_name(self.function)(self.model, self.args)
        return engine


class Loaded(NamedTuple):
    """What is known of a model once it is loaded."""

    tokenizer: Any
    max_model_len: int
    dtype: str
    quantization: str
    #: Rows that share the batch at most.
    max_num_seqs: int


class Reply(NamedTuple):
    """What came of a request."""

    samples: tuple[Sample, ...]
    #: Natural logarithms of the prompt's own tokens, where they were asked for.
    prompt_logprobs: tuple[float, ...]


class Request(NamedTuple):
    """Continue a prompt."""

    request_id: str
    prompt: list[int]
    #: ``SamplingParams``
    params: Any
    adapter: str | None


class Abort(NamedTuple):
    """Forget a request."""

    request_id: str


class Adapter(NamedTuple):
    """Load a LoRA adapter; ``number`` is vLLM's, from 1."""

    name: str
    number: int
    folder: str


class Report(NamedTuple):
    """What happened since the last one."""

    #: Steps made since the start.
    steps: int
    #: Requests that wait for room in the batch; all that are not done.
    waiting: int
    unfinished: int
    #: Share of the room for keys and values that is taken, from 0 to 1.
    kv_cache_usage: float
    #: By request, or adapter: what came of it.
    results: list[tuple[str, "Reply | EngineError | None"]]


def serve(connection: Connection, load: Loader) -> None:
    """Load the engine, say what it is, and carry out orders until the other side has gone or a step fails.

    Sends ``Loaded``, or the UserError or EngineDead that loading ended with; then one ``Report`` after the other. After an EngineDead
    comes nothing more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for whoever started us
    try:
        engine = load()
        from .vllm_requests import loaded

        connection.send(loaded(engine.get_tokenizer(), engine.vllm_config))
    except (UserError, EngineDead) as error:
        connection.send(error)
        return
    except (ImportError, NotImplementedError) as error:  # the second is how Unsloth says that there is no GPU
        connection.send(UserError(f"the engine cannot be loaded: {error}"))
        return
    try:
        _Server(engine, connection).run()
    except (EOFError, ConnectionError):
        pass  # nobody is there any more
    except Exception as error:  # whatever a step fails with, no row of this batch can be trusted
        from .vllm_requests import first_line

        connection.send(EngineDead(f"{type(error).__name__}: {first_line(error)}"))
    finally:
        engine.engine_core.shutdown()


class _Server:
    def __init__(self, engine: "LLMEngine", connection: Connection) -> None:
        from vllm.lora.request import LoRARequest  # here: Unsloth replaces the class while it loads a model

        self._engine, self._connection, self._lora = engine, connection, LoRARequest
        self._loras: dict[str, LoRARequest] = {}
        self._results: list[tuple[str, Reply | EngineError | None]] = []
        self._steps = 0

    def run(self) -> None:
        while True:
            self._take_orders()
            if self._engine.has_unfinished_requests():
                self._step()
            self._report()

    def _take_orders(self) -> None:
        """Do what was ordered since the last step; wait for something if there is nothing else to do."""
        busy = self._engine.has_unfinished_requests()
        while self._connection.poll(0 if busy else None):
            self._carry_out(self._connection.recv())
            busy = True

    def _carry_out(self, order: Request | Abort | Adapter) -> None:
        from .vllm_requests import as_engine_error, first_line

        match order:
            case Request(request_id, prompt, params, adapter):
                lora = self._loras[adapter] if adapter is not None else None
                try:
                    self._engine.add_request(request_id, {"prompt_token_ids": prompt}, params, lora_request=lora)
                except Exception as error:
                    self._results.append((request_id, as_engine_error(error)))
            case Abort(request_id):
                self._engine.abort_request([request_id])
            case Adapter(name, number, folder):
                self._loras[name] = self._lora(name, number, folder)
                try:
                    self._engine.add_lora(self._loras[name])
                    self._results.append((name, None))
                except Exception as error:
                    self._results.append((name, Failed(first_line(error))))

    def _step(self) -> None:
        from .vllm_requests import reply_of

        self._results += [(output.request_id, reply_of(output)) for output in self._engine.step() if output.finished]
        self._steps += 1

    def _report(self) -> None:
        scheduler = self._engine.engine_core.engine_core.scheduler
        _, waiting = scheduler.get_request_counts()
        usage = scheduler.kv_cache_manager.usage
        self._connection.send(Report(self._steps, waiting, self._engine.get_num_unfinished_requests(), usage, self._results))
        self._results = []
