"""The far side of ``vllm_process``: owns a synchronous vLLM engine, takes orders, steps, and reports. Many rows share its batch.

Nothing heavy is imported before the engine is loaded: Unsloth must come before vLLM.
"""

import signal
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from workers.contract.errors import EngineDead, EngineError, Failed, UserError

from .admission import Admission
from .vllm_messages import Abort, Adapter, Loader, Reply, Report, Request

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine


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
        self._admission = Admission(engine.vllm_config.scheduler_config.max_num_seqs)

    def run(self) -> None:
        while True:
            self._take_orders()
            self._let_in()
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
        from .vllm_requests import first_line

        match order:
            case Request():
                self._admission.hold(order, self._steps)
            case Abort(request_id):
                if not self._admission.forget(request_id):
                    self._engine.abort_request([request_id])
            case Adapter(name, number, folder):
                self._loras[name] = self._lora(name, number, folder)
                try:
                    self._engine.add_lora(self._loras[name])
                    self._results.append((name, None))
                except Exception as error:
                    self._results.append((name, Failed(first_line(error))))

    def _let_in(self) -> None:
        """Give the engine what it shall have before its next step; if it refuses all of that, then more."""
        while requests := self._admission.let_in(self._engine.get_num_unfinished_requests(), self._steps):
            for request in requests:
                self._add(request)

    def _add(self, request: Request) -> None:
        from .vllm_requests import as_engine_error

        lora = self._loras[request.adapter] if request.adapter is not None else None
        try:
            self._engine.add_request(request.request_id, {"prompt_token_ids": request.prompt}, request.params, lora_request=lora)
        except Exception as error:
            self._results.append((request.request_id, as_engine_error(error)))

    def _step(self) -> None:
        from .vllm_requests import reply_of

        self._results += [(output.request_id, reply_of(output)) for output in self._engine.step() if output.finished]
        self._steps += 1

    def _report(self) -> None:
        scheduler = self._engine.engine_core.engine_core.scheduler
        _, waiting = scheduler.get_request_counts()
        usage = scheduler.kv_cache_manager.usage
        held, unfinished = len(self._admission), self._engine.get_num_unfinished_requests()
        self._connection.send(Report(self._steps, waiting + held, unfinished + held, usage, self._results))
        self._results = []
