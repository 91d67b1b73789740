"""An unmodified client speaks TLS to a broker, verifies its name, and refuses one that another authority signed.

The broker of the tests has no TLS: a proxy ends it, and puts its own port where the broker tells clients to connect.
"""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from parts.program import HOST, free_ports
from tests.brokers import Broker, messages
from tests.certificates import certified
from winnow.errors import Unavailable, WinnowError
from winnow.kafka import Producer, create
from winnow.topics import Record, Topic

pytestmark = pytest.mark.platform

CHUNK_BYTES = 64 * 1024


@contextmanager
def behind_tls(broker: Broker, folder: Path) -> Iterator[str]:
    """The broker's address for clients with TLS."""
    [port] = free_ports(1)
    target = int(broker.bootstrap.rpartition(":")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    plain, secured = (HOST.encode() + number.to_bytes(4, "big") for number in (target, port))

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: bool) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(CHUNK_BYTES):
                sink.write(chunk.replace(plain, secured) if back else chunk)
                await sink.drain()
        sink.close()

    async def serve(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(HOST, target)
        await asyncio.gather(pump(near, forth, False), pump(far, back, True))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.start_server(serve, HOST, port, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(5)
    try:
        yield f"{HOST}:{port}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def test_records_travel_by_tls_and_a_foreign_broker_gets_none(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, foreign = certified(tmp_path / "ours") / "face", certified(tmp_path / "foreign") / "face"
    topic = Topic(f"tls-{uuid4().hex}", 1, retention_ms=3_600_000)
    with behind_tls(broker, ours) as address:
        with pytest.raises(WinnowError):  # in the clear
            Producer(address, "plain")
        monkeypatch.setenv("WINNOW_KAFKA_SECURITY", "SSL")
        monkeypatch.setenv("WINNOW_KAFKA_CA", str(ours / "ca.crt"))
        create(address, [topic])
        producer = Producer(address, "secured")
        producer.produce(topic.name, [Record(b"k", b"by tls")])
        producer.close()
        monkeypatch.setenv("WINNOW_KAFKA_CA", str(foreign / "ca.crt"))
        with pytest.raises(Unavailable):
            Producer(address, "deceived")
    for name in ("SECURITY", "CA"):
        monkeypatch.delenv(f"WINNOW_KAFKA_{name}")
    assert [message.value for message in messages(broker.bootstrap, topic)] == [b"by tls"]
