"""An OpenAI-compatible endpoint that does as it is told: answers, limits, fails, cuts off, dawdles. What no real one does on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Answers one request for a completion.
Behaviour = Callable[["Handler", dict[str, Any]], None]


class Endpoint(ThreadingHTTPServer):
    """Takes one behaviour from ``script`` for every completion that it is asked for, and behaves well once that is empty."""

    daemon_threads = True
    request_queue_size = 256  # connections that come together

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Behaviour] = []
        self.otherwise: Behaviour = well()
        #: Bodies of all requests for completions.
        self.asked: list[dict[str, Any]] = []
        self.models: list[str] | None = ["big", "small"]
        #: What stands in the list of models, if it is another one.
        self.cards: Any = None
        self.key = ""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that leave are what is tested


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of a reply in one packet
    server: Endpoint

    def do_GET(self) -> None:
        if self._is_let_in():
            models = self.server.models
            cards = [{"id": name} for name in models or ()] if self.server.cards is None else self.server.cards
            self.reply(404, {}) if models is None else self.reply(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._is_let_in():
            with self.server.lock:
                self.server.asked.append(body)
                behave = self.server.script.pop(0) if self.server.script else self.server.otherwise
            behave(self, body)

    def reply(self, status: int, value: Any, *, cut: int = 0, kind: str = "application/json", **headers: str) -> None:
        """Send a reply; with ``cut`` so many bytes too few of it, and the connection is lost."""
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        self.close_connection = self.close_connection or bool(cut)

    def log_message(self, *_: object) -> None:
        pass

    def _is_let_in(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.key and given != self.server.key:
            self.reply(401, {"error": {"message": f"Incorrect API key provided: {given}", "code": "invalid_api_key"}})
            return False
        return True


def well(content: str | None = "<reasoning>\nr\n</reasoning>\n<answer>\na\n</answer>", finish: str = "stop", **more: Any) -> Behaviour:
    """Return one who answers; ``more`` goes into the message. A token is a word."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": content, **more}
        words = len((content or "").split()) + len(str(more.get("reasoning_content", "")).split())
        usage = {"prompt_tokens": len(body["messages"][-1]["content"].split()), "completion_tokens": words, "total_tokens": 0}
        handler.reply(
            200,
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": usage,
            },
        )

    return behave


def refuses(status: int, message: str = "no", code: str | None = None, param: str | None = None, **headers: str) -> Behaviour:
    """Return one who answers with an error."""
    return lambda handler, _: handler.reply(status, {"error": {"message": message, "code": code, "param": param}}, **headers)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Run one."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
