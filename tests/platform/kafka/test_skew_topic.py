"""What was served is compared by what lies in the topic of decisions, as it was when the job began."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from jobs.known import known_in
from jobs.skew import SKEWED, decision_topic, main, skew
from tests.brokers import Broker
from tests.homes import copy_of, small_home
from tests.replays import Shop, bundle_for, events, replay
from winnow.errors import FailedPrecondition, NotFound, Unavailable
from winnow.kafka import Producer, create
from winnow.served import of_json, to_json
from winnow.topics import DECISIONS, Record

pytestmark = [pytest.mark.platform, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    home = copy_of(small_home(folder / "empty"), folder / "home")
    one = Shop(home, bundle_for(folder / "ranking"))
    asyncio.run(replay(one, events(150, seed=3), seed=4))
    return one


def send(broker: Broker, lines: list[bytes]) -> None:
    producer = Producer(broker.bootstrap, "test")
    producer.produce(DECISIONS.name, [Record(str(n).encode(), line) for n, line in enumerate(lines)])
    producer.close()


def test_the_topic_is_compared_from_its_beginning_to_where_it_ended(
    shop: Shop, own_broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--home", str(shop.home), "--bootstrap", own_broker.bootstrap]
    with pytest.raises(NotFound, match=r"no topic winnow\.decisions"):
        main(words)
    create(own_broker.bootstrap, [DECISIONS])
    with pytest.raises(FailedPrecondition, match="no answer to compare"):
        main(words)
    lines = shop.kept.lines
    assert len(lines) > 80
    send(own_broker, lines[:-10])
    topic = decision_topic(own_broker.bootstrap)
    send(own_broker, lines[-10:])
    assert sorted(topic.lines()) == sorted(lines[:-10])  # what came later is left alone
    assert main(words) == 0
    assert f"{len(lines)} of {len(lines)} answers equal (100.0000%), {len(lines)} with" in capsys.readouterr().out

    send(own_broker, lines[:3])  # as after a broker that did not say that it had them
    assert main(words) == 0
    told = capsys.readouterr().out
    assert f"{len(lines)} of {len(lines)} answers equal" in told
    assert "3 lines repeat a decision, which was compared once" in told

    served = of_json(lines[40])
    assert served.vector is not None
    wrong = replace(served.vector, numbers={**served.vector.numbers, "user_log_events": 0.125})
    send(own_broker, [to_json(replace(served, vector=wrong)), b"{rubbish"])
    assert main(words) == SKEWED
    told = capsys.readouterr().out
    assert "1 answers differ in user_log_events" in told
    assert "1 lines cannot be read: not-json" in told


def test_a_broker_that_is_away_ends_the_check_as_an_error(shop: Shop, own_broker: Broker) -> None:
    create(own_broker.bootstrap, [DECISIONS])
    send(own_broker, shop.kept.lines[:20])
    topic = decision_topic(own_broker.bootstrap)
    own_broker.running.stop()
    with pytest.raises(Unavailable):
        skew(topic.lines(), known_in(shop.home))
