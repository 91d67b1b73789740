"""`winnow topics`: Kafka's topics as this release wants them, made before anybody needs them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.console import note, show, table
from cli.homes import AsJson

Bootstrap = Annotated[
    str, typer.Option("--bootstrap", help="host:port,… of the brokers.", envvar="WINNOW_KAFKA_BOOTSTRAP")
]
Replicas = Annotated[
    int, typer.Option("--replicas", min=1, max=9, help="Copies of what is made.", envvar="WINNOW_KAFKA_REPLICAS")
]


def topics(bootstrap: Bootstrap, replicas: Replicas = 1, as_json: AsJson = False) -> None:
    """Make the topics that are missing. One that exists stays as it is: its partitions never change, and its copies and
    retention are for Kafka's own tools to change."""
    from winnow.kafka import create, end_offsets
    from winnow.topics import ALL

    create(bootstrap, ALL, replicas=replicas)
    found = {topic.name: len(end_offsets(bootstrap, topic)) for topic in ALL}
    made = table("topics", "topic", "#partitions")
    for name, partitions in found.items():
        made.add_row(name, str(partitions))
    show(found, made, as_json)
    note(f"{len(found)} topics at {bootstrap}")
