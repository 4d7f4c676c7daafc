"""Faults as they happen to fleets, each against its bar; KOTAE_CHAOS=long runs them at their full size."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.networks import Networks
from tests.chaos.world import LONG, PATIENCE, Figures, World, questions, write_line
from tests.conftest import eventually
from tests.test_run import table
from workers.contract import broker

pytestmark = pytest.mark.timeout(2 * PATIENCE)

#: Rows of 0.2 to 2 s.
MIXED = ("delay=1.1", "delay_spread=0.9")
#: Rows in flight that such workers reach on a slow machine, too: as many a second have to be begun.
MIXED_IN_FLIGHT = 48


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server, and nothing else yet."""
    with World(tmp_path) as world:
        yield world


def assert_nothing_is_missing(figures: Figures) -> None:
    assert (figures.lost, figures.failed) == (0, 0)


# Three faults are mostly waiting. A short suite has them going beside the others; a long one each alone.


def drain_and_kill(folder: Path) -> None:
    with World(folder) as world:
        texts, drained = questions(1024 if LONG else 192), 40 if LONG else 12
        book = world.workbook("q.xlsx", texts)
        (leaving,) = world.start_workers("delay=15", "delay_spread=14", "--drain-seconds=60", count=1)
        world.wait_for_workers()
        world.start_workers("delay=2", "delay_spread=1", count=1)
        running = world.run(book)
        eventually(lambda: world.in_flight() >= 128)

        leaving.popen.terminate()
        before = len(leaving.ledger.ended)
        eventually(lambda: len(leaving.ledger.ended) >= before + drained)
        # What has just ended may not be stored yet; and while we look at what is, more may end.
        eventually(lambda: not world.unsettled(leaving.ledger.ended) and time.time() - leaving.ledger.of("end")[-1].time > 0.2)
        leaving.kill()
        done = leaving.ledger.ended

        assert running.ends() == 0, running.said()
        figures = world.figures("2 SIGTERM, then kill -9", book, texts, 1, ended_while_draining=len(done) - before)
        assert_nothing_is_missing(figures)
        assert figures.finished_rows_generated_again == 0
        assert figures.more["ended_twice"] == 0


def cut_off(folder: Path) -> None:
    outage, texts = (60, questions(2000)) if LONG else (35, questions(400))
    if not Networks.are_possible():
        pytest.skip("network namespaces need root, `ip`, and a kernel that lets us")
    with Networks() as networks:
        address, at_the_server = networks.add()
        with World(folder, address, at_the_server) as world:
            book = world.workbook("q.xlsx", texts)
            hosts = [networks.add()[1] for _ in range(3)]
            for host in hosts[:2]:
                world.start_workers("delay=4", "delay_spread=3", count=1, inside=host)
            world.wait_for_workers()
            running = world.run(book, inside=hosts[2])
            eventually(lambda: world.in_flight() >= 128)
            cut_off = world.workers[0]

            networks.cut(hosts[0])
            had = world.unsettled(cut_off.ledger.started)
            time.sleep(outage)  # the fault itself
            ended_meanwhile = cut_off.ledger.ended & had
            networks.mend(hosts[0])

            assert running.ends() == 0, running.said()
            eventually(lambda: all((presence := worker.presence()) and presence.in_flight == 0 for worker in world.workers), 120)
            counts = {"in_flight_at_cut": len(had), "ended_cut_off": len(ended_meanwhile)}
            figures = world.figures(f"7 network of a worker cut for {outage} s", book, texts, 1, **counts)
            left = world.server.client.keys("celery-task-meta-*")
            assert_nothing_is_missing(figures)
            assert world.stored() == len(texts)
            assert ended_meanwhile, "the fault hit nobody"
            assert world.ledger.started_twice <= had
            assert not left
            assert cut_off.popen.poll() is None, cut_off.said()


def slow_rows(folder: Path) -> None:
    with World(folder) as world:
        seconds, texts = (5 * broker.VISIBILITY_TIMEOUT, questions(128)) if LONG else (40, questions(12))
        book = world.workbook("q.xlsx", texts)
        world.start_workers(f"delay={seconds}")
        world.wait_for_workers()

        running = world.run(book)

        assert running.ends() == 0, running.said()
        figures = world.figures(f"3 rows of {seconds} s", book, texts)
        assert_nothing_is_missing(figures)
        assert figures.generated_twice == 0


Wait = Callable[[Callable[[Path], None]], None]


@pytest.fixture(scope="module", autouse=True)
def waited_for(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wait]:
    """Run a fault that is mostly waiting, or wait for it if it runs already."""
    if LONG:
        yield lambda fault: fault(tmp_path_factory.mktemp(fault.__name__))
        return
    wanted = {item.name for item in request.session.items}
    faults = {test: fault for test, fault in WAITING.items() if test in wanted}
    with ThreadPoolExecutor(len(WAITING)) as pool:
        running = {fault: pool.submit(fault, tmp_path_factory.mktemp(fault.__name__)) for fault in faults.values()}
        yield lambda fault: running[fault].result()


def test_workers_that_are_killed_at_random_lose_no_row_and_repeat_only_what_they_had(world: World) -> None:
    """Fault 1, kill -9: half of the kills take the whole worker, half only its Celery process, which its supervisor replaces."""
    kills, chance = (50 if LONG else 5), random.Random(1)
    texts = questions(300 * kills)
    book = world.workbook("q.xlsx", texts)
    world.start_workers(*MIXED)
    running = world.run(book)
    eventually(lambda: world.in_flight() >= MIXED_IN_FLIGHT)
    had: set[str] = set()
    for kill in range(kills):
        victim = world.workers[kill % 2]
        eventually(victim.presence)
        time.sleep(chance.uniform(0.0, 2.0))
        assert running.is_running, f"the run was over after {kill} kills: give it more rows"
        if kill % 4 < 2:
            victim.kill()
        else:
            assert victim.kill_child()
        had |= world.unsettled(victim.ledger.started)
        if kill % 4 < 2:
            victim.start()

    assert running.ends() == 0, running.said()
    figures = world.figures("1 kill -9 of a worker", book, texts, kills, in_flight_at_kills=len(had))
    assert_nothing_is_missing(figures)
    assert world.stored() == len(texts)
    assert world.ledger.started_twice <= had


@pytest.mark.parametrize("outage", [3, 60] if LONG else [3])
def test_a_server_that_is_killed_and_comes_back_costs_no_finished_row(world: World, outage: int) -> None:
    """Fault 5, kill -9 of the server: nobody is restarted by hand, and what engines end meanwhile is kept until it can be stored."""
    texts = questions(3000 if LONG else 600)
    book = world.workbook("q.xlsx", texts)
    world.start_workers(*MIXED)
    running = world.run(book)
    eventually(lambda: world.in_flight() >= MIXED_IN_FLIGHT)
    eventually(lambda: len(world.ledger.ended) >= 100)

    world.server.kill()
    ended = len(world.ledger.ended)
    time.sleep(outage)  # the fault itself
    ended_meanwhile = len(world.ledger.ended) - ended
    world.server.start()

    assert running.ends() == 0, running.said()
    figures = world.figures(f"5 kill -9 of the server, {outage} s", book, texts, 1, ended_meanwhile=ended_meanwhile)
    assert_nothing_is_missing(figures)
    assert ended_meanwhile > 0, "the fault hit nobody"
    for worker in world.workers:
        assert "results cannot be stored and wait" in worker.said()
        assert worker.said().count("Traceback") < 8, "a thousand rows in flight must not fill the disk with their tracebacks"
    assert figures.finished_rows_generated_again == 0


def test_a_worker_that_waits_for_more_rows_outlives_the_loss_of_its_server(world: World) -> None:
    """It has some, and room for others: its process went down with the connection, and the engine with it."""
    texts = questions(12)
    book = world.workbook("q.xlsx", texts)
    (worker,) = world.start_workers("delay=8", count=1)
    running = world.run(book)
    eventually(lambda: world.in_flight() == len(texts))
    process = worker.child()

    world.server.kill()
    eventually(lambda: "Connection to broker lost" in worker.said())
    world.server.start()

    assert running.ends() == 0, running.said()
    assert process is not None
    assert worker.child() == process, worker.said()


def test_connections_that_are_cut_cost_at_most_the_rows_in_flight(world: World) -> None:
    """Fault 6, as a firewall does that forgets its table: every client must notice by itself."""
    texts, cuts = questions(3000 if LONG else 600), 5 if LONG else 1
    book = world.workbook("q.xlsx", texts)
    world.start_workers(*MIXED)
    running = world.run(book)
    in_flight: set[str] = set()
    for cut in range(cuts):
        eventually(lambda: world.in_flight() >= MIXED_IN_FLIGHT)
        eventually(lambda least=(cut + 1) * 100: len(world.ledger.ended) >= least)
        assert running.is_running
        for kind in ("normal", "pubsub"):
            world.server.client.execute_command("CLIENT", "KILL", "TYPE", kind)
        in_flight |= world.ledger.running

    assert running.ends() == 0, running.said()
    eventually(lambda: not world.server.client.hlen(broker.UNACKED))  # or all that is done would come again and again
    figures = world.figures("6 all connections cut", book, texts, cuts, in_flight_at_cuts=len(in_flight))
    assert_nothing_is_missing(figures)
    assert world.ledger.started_twice <= in_flight
    assert figures.finished_rows_generated_again == 0


def test_a_worker_told_to_stop_ends_within_its_grace_and_the_other_has_its_rows_at_once(world: World) -> None:
    """Fault 4, SIGTERM with a grace shorter than the rows: a spot instance must not cost a visibility timeout."""
    grace, texts = 3, questions(512 if LONG else 128)
    book = world.workbook("q.xlsx", texts)
    (leaving,) = world.start_workers("delay=600", f"--drain-seconds={grace}", count=1)
    world.wait_for_workers()
    running = world.run(book)
    eventually(lambda: len(leaving.ledger.running) == 64)
    world.start_workers(*MIXED, count=1)
    world.wait_for_workers()
    eventually(lambda: world.queued() == 0, PATIENCE)  # handed back rows wait behind those that are queued

    leaving.popen.terminate()
    told = time.monotonic()
    code = leaving.popen.wait(60)
    took, ended = time.monotonic() - told, time.time()

    assert running.ends() == 0, running.said()
    theirs = leaving.ledger.started
    resumed = [event.time - ended for event in world.workers[1].ledger.of("start") if event.row in theirs]
    figures = world.figures("4 SIGTERM, short grace", book, texts, 1, stopped_in=round(took, 1), last_resumed_after=round(max(resumed), 1))
    assert_nothing_is_missing(figures)
    assert code == 0, leaving.said()
    assert took <= grace + 5
    assert len(resumed) == 64
    assert min(resumed) < 1.0
    assert max(resumed) < 10.0, "they wait for their turn, and not for the visibility timeout of 30 s"


def test_a_producer_that_is_killed_again_and_again_resumes_and_pays_for_nothing_twice(world: World) -> None:
    """Fault 8, kill -9 of `kotae run`: the run store and Redis know between them what is done, whenever it happens."""
    kills, chance = (20 if LONG else 4), random.Random(8)
    texts = questions((600 if LONG else 400) * kills)
    book = world.workbook("q.xlsx", texts)
    world.start_workers(*MIXED)
    world.wait_for_workers()
    for kill in range(kills):
        running = world.run(book)
        if kill % 4 == 0:
            time.sleep(chance.uniform(0.0, 3.0))  # at any moment of its start, of the sending, of the collecting
        else:
            least = len(world.ledger.ended) + chance.randint(1, 200)
            eventually(lambda least=least: len(world.ledger.ended) >= least)
        assert running.is_running, f"the run was over after {kill} kills: give it more rows"
        running.kill()

    running = world.run(book)
    assert running.ends() == 0, running.said()
    started = len(world.ledger.of("start"))
    figures = world.figures("8 kill -9 of the producer", book, texts, kills, generated=started)
    assert_nothing_is_missing(figures)
    assert world.stored() == len(texts)
    assert started <= 1.02 * len(texts)


def test_of_two_producers_of_one_run_one_works_and_one_is_told_of_the_other(world: World) -> None:
    """Fault 9, the same command twice at once: by two people, or by one and their cron."""
    texts = questions(512)
    book = world.workbook("q.xlsx", texts)
    world.start_workers(*MIXED)
    world.wait_for_workers()

    both = [world.run(book), world.run(book)]
    first, second = sorted(both, key=lambda one: one.ends())

    figures = world.figures("9 two producers at once", book, texts)
    assert_nothing_is_missing(figures)
    assert (first.ends(), second.ends()) == (0, 2), first.said() + second.said()
    assert f"process {first.popen.pid} on " in second.said()
    assert len(world.ledger.of("start")) == len(texts)


def test_rows_that_kill_engines_are_singled_out(world: World) -> None:
    """Fault 10, poison: such rows fail by name, whoever was beside them is answered, and engines die few times for it."""
    count, texts = (5, questions(2000)) if LONG else (2, questions(200))
    poisoned = [len(texts) * place // count + 7 for place in range(count)]
    for row in poisoned:
        texts[row] += " POISON"
    book = world.workbook("q.xlsx", texts)
    world.start_workers("delay=0.2", "delay_spread=0.1", "die=POISON")
    world.wait_for_workers()

    running = world.run(book)

    code = running.ends()
    deaths = sum(worker.said().count("the engine died") for worker in world.workers)
    figures = world.figures("10 poison rows", book, texts, deaths)
    errors = table(world.folder / f"out-{book}", "Errors")
    assert code == 3, running.said()
    assert (figures.lost, figures.failed) == (0, count)
    assert [error["question"] for error in errors] == [texts[row] for row in poisoned]
    assert deaths <= 6 * count


def test_a_cancelled_run_leaves_its_places_to_the_next_at_once(world: World) -> None:
    """Fault 11, `kotae cancel`: a wrong prompt over a night's rows must not keep the engines until its last row."""
    in_flight = 2048 if LONG else 256
    world.start_workers("delay=60", f"max_num_seqs={in_flight}", in_flight=in_flight // 2)
    world.wait_for_workers()
    wrong = world.workbook("wrong.xlsx", questions(in_flight, "mistake"))
    assert world.kotae("submit", wrong, "--model", "echo", "--json").ends() == 0
    eventually(lambda: world.in_flight() == in_flight)
    (cancelled,) = {event.row.partition(":")[0] for event in world.ledger.events}
    right = world.workbook("right.xlsx", questions(64))
    submitted = world.kotae("submit", right, "--model", "echo", "--json")
    assert submitted.ends() == 0, submitted.said()

    cancel = world.kotae("cancel", cancelled)
    eventually(lambda: world.server.client.get(broker.generation_key(cancelled)))
    written = time.time()

    def others() -> list[float]:
        return [event.time for event in world.ledger.of("start") if not event.row.startswith(cancelled)]

    first = eventually(others)[0] - written
    eventually(lambda: len(others()) == 64)
    eventually(lambda: sum(presence.in_flight for worker in world.workers if (presence := worker.presence())) == 64)
    code = cancel.ends(60)
    write_line(Figures("11 cancel", in_flight, 1, seconds=world.seconds(), more={"next_run_started_after": round(first, 2)}))

    assert code == 0, cancel.said()
    assert first <= 5.0
    assert not world.ledger.of("end")
    assert not world.server.client.keys(f"celery-task-meta-{cancelled}*")
    assert world.kotae("collect", cancelled, "-o", "out-wrong.xlsx").ends(60) == 4
    assert {row["outcome"] for row in table(world.folder / "out-wrong.xlsx")} == {"cancelled"}


def test_a_short_run_behind_a_long_one_gets_its_share(world: World) -> None:
    """Fault 12, which is none to the machine but to the person: twenty rows must not wait for twenty thousand."""
    long, short, in_flight = (20_000, 100, 256) if LONG else (700, 20, 32)
    world.start_workers("delay=1", in_flight=in_flight)
    world.wait_for_workers()

    def seconds(word: str) -> float:
        """Have a run of ``short`` rows answered; return how long it took from all of them being sent to the last one's end."""
        before = {event.row.partition(":")[0] for event in world.ledger.events}
        running = world.run(world.workbook(f"{word}.xlsx", questions(short, word)))
        sent = eventually(lambda: [key for key in world.server.client.keys("kotae.sent.*") if key.decode().split(".")[2] not in before])
        began = time.time()
        assert running.ends() == 0, running.said()
        run_id = sent[0].decode().split(".")[2]
        return world.ledger.of("end", run_id)[-1].time - began

    alone = seconds("alone")
    behind = world.run(world.workbook("long.xlsx", questions(long, "long")))
    # Not until every place is taken: two cores do not get 512 rows of 1 s begun before the first of them end.
    eventually(lambda: len(world.ledger.ended) >= short + 2 * in_flight)
    beside = seconds("beside")
    is_running = behind.is_running
    if not LONG:
        assert behind.ends() == 0, behind.said()

    counts = {"alone": round(alone, 2), "behind": round(beside, 2)}
    write_line(Figures("12 short run behind a long one", long + short, seconds=world.seconds(), more=counts))
    assert is_running, "the long run was over too early: give it more rows"
    assert beside <= 3 * alone


if LONG:  # the figures mean something only at full size

    def test_three_times_the_rows_need_no_more_memory_in_the_server(tmp_path: Path) -> None:
        """Fault 13: what Redis holds is bounded by the window, not by the run."""
        peaks = []
        for rows in (20_000, 60_000):
            folder = tmp_path / str(rows)
            folder.mkdir()
            with World(folder) as world:
                texts = questions(rows)
                book = world.workbook("q.xlsx", texts)
                world.start_workers("delay=0.1")
                running = world.run(book, "--window", "2000")
                assert running.ends() == 0, running.said()
                peak = world.server.client.info("memory")["used_memory_peak"]
                assert_nothing_is_missing(world.figures(f"13 {rows} rows", book, texts, used_memory_peak=peak))
                peaks.append(peak)
        assert peaks[1] <= 1.1 * peaks[0]


def test_rows_that_end_while_a_worker_drains_are_kept_though_it_is_killed_then(waited_for: Wait) -> None:
    """Fault 2, SIGTERM and then SIGKILL, as an impatient container host does: what was done in between is done."""
    waited_for(drain_and_kill)


def test_rows_far_longer_than_the_visibility_timeout_are_generated_once(waited_for: Wait) -> None:
    """Fault 3: the heartbeat is what keeps kombu from giving a slow row to a second worker."""
    waited_for(slow_rows)


def test_a_worker_that_was_cut_off_comes_back_and_its_late_results_are_ignored(waited_for: Wait) -> None:
    """Fault 7, an unplugged cable: longer than the visibility timeout, so that somebody else has its rows meanwhile."""
    waited_for(cut_off)


WAITING = {
    "test_rows_that_end_while_a_worker_drains_are_kept_though_it_is_killed_then": drain_and_kill,
    "test_rows_far_longer_than_the_visibility_timeout_are_generated_once": slow_rows,
    "test_a_worker_that_was_cut_off_comes_back_and_its_late_results_are_ignored": cut_off,
}
