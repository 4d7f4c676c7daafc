"""What a worker process is told, read once from the environment (``KOTAE_...``)."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from .contract.errors import UserError
from .contract.messages import EngineName


class WorkerSettings(BaseSettings):
    """Model, engine and bounds of one worker process; each field is an environment variable with the prefix ``KOTAE_``."""

    model_config = SettingsConfigDict(env_prefix="KOTAE_")

    engine: EngineName = "vllm"
    #: A folder, the name of a model on a hub, or ``demo``.
    model: str = "demo"
    #: What producers call the model; by default the model as it was given.
    name: str = ""
    #: Adapter name -> folder.
    adapters: dict[str, str] = Field(default_factory=dict)
    engine_args: dict[str, Any] = Field(default_factory=dict)
    #: Rows taken and not yet answered; by default what fills the engine's batch.
    max_in_flight: int | None = Field(default=None, ge=1)
    #: Seconds that running rows get when the worker is told to stop, before they are handed back to the queue.
    drain_seconds: float = Field(default=30.0, ge=0)
    #: Seconds without a step of the engine, although it has rows, after which it counts as dead.
    hang_seconds: float = Field(default=180.0, gt=0)
    #: Where this process serves Prometheus metrics; by default nowhere.
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    #: Folder with the certificates for that; needed for an address that others reach.
    metrics_tls: Path | None = None
    #: The Unix socket on which a supervisor wants them instead.
    metrics_socket: Path | None = None
    #: Whether Flower is told of every row from the start; otherwise from when it asks for that, as it does every 5 s.
    events: bool = True
    #: Append-only file in which the engine writes every row it starts and ends, for those who check us.
    ledger: Path | None = None
    #: The key of an endpoint, under the name that its official client knows, or the file that holds it.
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_api_key_file: Path | None = Field(default=None, validation_alias="OPENAI_API_KEY_FILE")

    @property
    def served_name(self) -> str:
        """Return the name that names the queues."""
        return self.name or (self.engine if self.engine == "echo" else self.model)

    def openai_key(self) -> str:
        """Return the key of the endpoint; empty if none was given. Raises UserError."""
        if self.openai_api_key_file is not None:
            try:
                return self.openai_api_key_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"OPENAI_API_KEY_FILE {self.openai_api_key_file} cannot be read ({type(error).__name__})") from error
        return self.openai_api_key.get_secret_value().strip() if self.openai_api_key is not None else ""


def worker_settings() -> WorkerSettings:
    """Read the settings. Raises UserError, naming the variable, for a value that cannot be."""
    try:
        return WorkerSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])).upper()
        raise UserError(f"{name if name.startswith('OPENAI_') else f'KOTAE_{name}'}: {first['msg']}") from error
    except SettingsError as error:
        raise UserError("KOTAE_ADAPTERS and KOTAE_ENGINE_ARGS must be JSON objects") from error
