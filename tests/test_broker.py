"""Names, settings and secrets of the broker."""

import json
from collections import Counter
from pathlib import Path

import pytest
import redis
from celery import Celery, states
from kombu import Connection
from kombu.asynchronous import Hub
from pydantic import SecretStr

from tests.conftest import question, send
from workers.contract import broker
from workers.contract.errors import BrokerError
from workers.contract.messages import Answer, Outcome


def test_results_are_where_celerys_backend_puts_them(broker_url: str) -> None:
    """The producer has no result backend, so it must know the key by itself."""
    app = Celery(broker=broker_url, backend=broker_url, set_as_current=False)
    name = broker.task_id("cafe", 17, 0)

    assert app.backend.get_key_for_task(name).decode() == broker.result_key(name)


def test_an_answer_goes_to_redis_once_and_nothing_worse_takes_its_place(broker_url: str, client: redis.Redis) -> None:
    """Celery sends each result a second time to whoever listens for it, and nobody does."""
    app = Celery(set_as_current=False)
    app.conf.update(broker.worker_config(broker.broker_settings(broker_url), "echo"))
    name = broker.task_id("cafe", 17, 0)
    answer = Answer(run_id="cafe", row=17, outcome=Outcome.FAILED, error="first", worker="w", fingerprint="f")

    def calls() -> Counter[str]:
        return Counter({command: told["calls"] for command, told in client.info("commandstats").items()})

    with client.pubsub() as listener:
        listener.psubscribe("*")
        assert listener.get_message(timeout=5)
        before = calls()
        assert app.backend.store_all([app.backend.record(name, answer)]) == [None]
        app.backend.store_result(name, answer, states.SUCCESS)  # as Celery does once the task has returned
        used = calls() - before
        app.backend.store_result(name, ValueError("late"), states.FAILURE)

        assert (used["cmdstat_set"], used["cmdstat_get"], used["cmdstat_publish"]) == (1, 0, 0)
        assert listener.get_message(timeout=0.1) is None
    app.backend.client.connection_pool.disconnect()
    stored = json.loads(client.get(broker.result_key(name)))
    assert (stored["status"], stored["result"]["error"], stored["task_id"]) == (states.SUCCESS, "first", name)
    assert client.ttl(broker.result_key(name)) == -1, "what nobody has collected is kept"


def test_the_name_of_a_task_tells_its_row() -> None:
    """A message that cannot be read must still find its row."""
    assert broker.parse_task_id(broker.task_id("cafe", 17, 2)) == ("cafe", 17, 2)


def test_a_row_waits_on_the_queue_of_its_contract_and_served_name(broker_url: str, client: redis.Redis) -> None:
    """One list for each queue, none for Redis' priorities; the name is a promise to other tools."""
    send(broker_url, [question()], "some/model", queue=3)

    assert client.llen("kotae.1.some/model.3") == 1
    assert [key for key in client.keys("kotae.1.*") if client.type(key) == b"list"] == [b"kotae.1.some/model.3"]


@pytest.mark.parametrize("prefix", ["", "team:"])
def test_the_heartbeat_finds_kombus_record_of_a_row_in_work(broker_url: str, client: redis.Redis, prefix: str) -> None:
    """The index is not public: this fails on the day when kombu moves it, and with it every worker's heartbeat."""
    app = broker.producer_app(broker.broker_settings(broker_url))
    app.conf.broker_transport_options = app.conf.broker_transport_options | {"global_keyprefix": prefix}
    with app.connection_for_write() as connection:
        queue = broker.celery_queues("echo")[0](connection.channel())
        connection.Producer().publish({}, exchange=queue.exchange, routing_key=queue.routing_key, declare=[queue])

    with app.connection_for_read() as connection:
        queue = broker.celery_queues("echo")[0](connection.channel())
        message = queue.get(no_ack=False)
        assert message is not None
        tag, index = message.delivery_tag, broker.unacked_index(message.channel)

        assert index == prefix + "unacked_index"
        assert client.zscore(index, tag) is not None
        assert client.hlen(prefix + broker.UNACKED) == 1
        message.ack()

    assert client.zscore(index, tag) is None
    app.close()


def test_a_password_is_never_shown() -> None:
    """Neither in messages nor where settings are printed."""
    settings = broker.BrokerSettings(broker=SecretStr("redis://user:sesame@127.0.0.1:1/0"))

    with pytest.raises(BrokerError) as error:
        broker.connect(settings)

    for shown in (repr(settings), str(error.value), settings.masked()):
        assert "sesame" not in shown
    assert "user:***@127.0.0.1:1" in str(error.value)


@pytest.mark.parametrize("password", ["plain", "with/slash@and:colon", "日本"])
def test_a_password_may_come_from_the_environment_or_a_file(
    password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    """Then no process list shows it; and it may hold any character."""
    bare = "redis://" + broker_url.rpartition("@")[2]
    secret = broker_url.split("//:")[1].split("@")[0]
    (tmp_path / "secret").write_text(f"{secret}\n")

    monkeypatch.setenv("KOTAE_BROKER", bare)
    monkeypatch.setenv("KOTAE_BROKER_PASSWORD", password)
    with redis.Redis.from_url(broker.broker_settings().url()) as client:
        assert client.connection_pool.connection_kwargs["password"] == password
    monkeypatch.setenv("KOTAE_BROKER_PASSWORD_FILE", str(tmp_path / "secret"))

    broker.connect(broker.broker_settings()).close()


def test_a_certificate_is_checked_without_being_asked_for() -> None:
    """redis-py does so by itself; Celery wants to read it in the URL, and ends with a traceback where it cannot."""
    urls = ("rediss://hub/0", "rediss://hub/0?ssl_ca_certs=ca.pem", "rediss://hub/0?ssl_cert_reqs=none", "redis://hub/0")

    used = [broker.BrokerSettings(broker=SecretStr(url)).url() for url in urls]

    assert used[0] == "rediss://hub/0?ssl_cert_reqs=required"
    assert used[1] == "rediss://hub/0?ssl_cert_reqs=required&ssl_ca_certs=ca.pem"
    assert used[2:] == list(urls[2:])


@pytest.mark.parametrize(
    ("url", "password", "says"),
    [
        ("redis://{host}", b"sesame", r"refused the password of KOTAE_BROKER_PASSWORD_FILE \(.*secret\)"),
        ("redis://:sesame@{host}", None, "refused the password of the URL"),
        ("redis://{host}", None, "wants a password"),
        ("redis://{host}", b"", "secret is empty"),
        ("redis://{host}", b"\xff\xfe\x00s", "secret: it is not text"),
        ("redis://{host}?colour=blue", b"sesame", "has an option that there is not: 'colour'"),
        ("rediss://{host}?ssl_ca_certs=/nowhere/ca.pem", b"sesame", "ssl_ca_certs=/nowhere/ca.pem, and that file cannot be read"),
    ],
)
def test_what_is_wrong_with_the_way_in_is_named(
    url: str, password: bytes | None, says: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password may stand in three places, a file that is missing be any of four."""
    if password is not None:
        (tmp_path / "secret").write_bytes(password)
        monkeypatch.setenv("KOTAE_BROKER_PASSWORD_FILE", str(tmp_path / "secret"))

    with pytest.raises(BrokerError, match=says) as error:
        broker.connect(broker.broker_settings(url.format(host=broker_url.rpartition("@")[2])))

    assert "sesame" not in str(error.value)


def test_rows_that_are_done_together_are_acknowledged_together(broker_url: str, client: redis.Redis) -> None:
    """Celery's loop, which fetches rows too, would wait for Redis once for each of them."""
    send(broker_url, [question(row=row) for row in range(5)], "echo", queue=0)
    hub = Hub()
    with Connection(broker_url, transport="workers.transport:Transport") as connection:
        channel = connection.channel()
        alone, *others, last = [channel.basic_get("kotae.1.echo.0") for _ in range(5)]
        alone.ack()
        held = [client.hlen(broker.UNACKED)]
        connection.register_with_event_loop(hub)
        before = client.info("commandstats")["cmdstat_zrem"]["calls"]
        for message in others:
            message.ack()
        held.append(client.hlen(broker.UNACKED))
        hub.run_once()
        held.append(client.hlen(broker.UNACKED))
        calls = client.info("commandstats")["cmdstat_zrem"]["calls"] - before
        last.ack()
    hub.close()

    assert (held, calls) == ([4, 4, 1], 1)
    assert not client.hlen(broker.UNACKED), "a connection that ends takes along what nobody has told Redis yet"
