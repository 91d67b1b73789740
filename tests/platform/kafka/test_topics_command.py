"""`winnow topics`, which an upgrade runs before anything rolls."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.brokers import Broker
from winnow.topics import ALL

pytestmark = pytest.mark.platform


def test_missing_topics_are_made_and_made_again_changes_nothing(own_broker: Broker) -> None:
    words = ["topics", "--bootstrap", own_broker.bootstrap, "--json"]
    for _ in range(2):
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout) == {topic.name: topic.partitions for topic in ALL}
