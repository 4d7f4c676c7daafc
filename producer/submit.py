"""Rows become tasks: one Celery task per row, sent in batches."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, cast

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from workers.contract import broker
from workers.contract.errors import BrokerError
from workers.contract.messages import Question

from .manifest import Manifest
from .transport import Transport

#: Messages per round trip.
BATCH = 500


class Sender:
    """Puts the questions of one run on its queue."""

    def __init__(self, transport: Transport, manifest: Manifest) -> None:
        self._transport = transport
        self._app = broker.producer_app(transport.settings)
        queues = {queue.name: queue for queue in broker.celery_queues(manifest.served_name)}
        assert manifest.queue is not None, "the feeder chooses one before it sends"
        self._queue: Any = queues[manifest.queue]  # the stubs want a name; Celery takes a Queue too
        self._connection = self._app.connection_for_write()
        self._producer: Any = self._app.amqp.Producer(self._connection)  # the stubs do not know batch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.release()
        self._app.close()

    def send(self, questions: Iterable[Question]) -> list[Question]:
        """Send questions and mark them in Redis as sent; return them. Raises BrokerError.

        A question may reach the queue twice if the connection breaks in between; the guards of the worker are made for that.
        """
        sent = list(questions)
        with broker.explaining(self._transport.settings):
            try:
                with self._producer.batch(BATCH):
                    for question in sent:
                        self._send(question)
            except KombuError as error:
                if isinstance(error.__cause__, RedisError):
                    raise error.__cause__ from error
                raise BrokerError(f"the broker at {self._transport.settings.masked()} took the rows only in part: {error}") from error
            pipe = self._transport.redis.pipeline(transaction=False)
            for question in sent:
                pipe.setbit(broker.sent_key(question.run_id, question.generation), question.row, 1)
            for key in {broker.sent_key(question.run_id, question.generation) for question in sent}:
                pipe.expire(key, broker.STORED_TTL)
            pipe.execute()
        return sent

    def _send(self, question: Question) -> None:
        self._app.send_task(
            broker.ANSWER_TASK,
            args=(question.to_wire(),),
            task_id=broker.task_id(question.run_id, question.row, question.generation),
            queue=self._queue,
            producer=self._producer,
            retry=False,
            argsrepr=repr(question),  # what Flower shows; by default a kilobyte of the question
            kwargsrepr="{}",
            timestamp=round(time.time(), 3),  # a worker measures by it how long the row waited
        )


def rows_of(transport: Transport, key: str) -> set[int]:
    """Return the rows whose bits are set in a bitmap of this Redis, such as ``sent_key`` and ``stored_key`` name."""
    with broker.explaining(transport.settings):
        bitmap = cast(bytes, transport.redis.get(key) or b"")
    return {8 * place + bit for place, byte in enumerate(bitmap) if byte for bit in range(8) if byte & (0x80 >> bit)}
