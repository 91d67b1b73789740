"""Tells a catalogue at once that items were written: the stream that the feature service adds to, followed in a thread.

The stream says which items and up to which position of the item log; the items themselves come from the feature service,
as they always do, so there is one way in and its order holds. Without Redis, or while it is away, the catalogue looks by
itself every half second.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from winnow.errors import WinnowError
from winnow.hot_store import CHANGES
from winnow.redis import connect, translated

BLOCK_S = 1.0  # one look at the stream
RETRY_S = 0.5
SLACK_S = 1.0  # beyond BLOCK_S Redis is too slow

Told = Callable[[int], None]
"""Called on the event loop with an item-log position that there is now."""

logger = logging.getLogger(__name__)


async def follow_changes(url: str, told: Told) -> None:
    """For ever; an empty address follows nothing."""
    if not url:
        await asyncio.Event().wait()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stopping = threading.Event()

    def on_loop(work: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(work, *args)

    def run() -> None:
        try:
            watch(url, stopping, lambda watermark: on_loop(told, watermark))
        except BaseException as bug:  # told to whoever runs this, where it ends the process
            on_loop(fail, ended, bug)

    threading.Thread(target=run, name="item-changes", daemon=True).start()
    try:
        await ended
    finally:
        stopping.set()


def watch(url: str, stopping: threading.Event, told: Callable[[int], None]) -> None:
    """Read the stream until `stopping`; whenever Redis comes (back), say so with position 0: something may be missed."""
    client: Any = connect(url, BLOCK_S + SLACK_S)
    last: bytes | None = None
    while not stopping.is_set():
        try:
            with translated():
                if last is None:
                    last = newest(client)
                    told(0)
                for place, fields in entries(client, last):
                    last = place
                    told(position(fields))
        except WinnowError as away:
            logger.debug("the stream of items cannot be read: %s", away.detail)
            last = None
            stopping.wait(RETRY_S)
    client.close()


def newest(client: Any) -> bytes:
    found = client.xrevrange(CHANGES, count=1)
    return bytes(found[0][0]) if found else b"0-0"


def entries(client: Any, after: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """What came since, waiting for it a while."""
    found = client.xread({CHANGES: after}, count=100, block=int(BLOCK_S * 1000))
    return list(found[0][1]) if found else []


def position(fields: dict[bytes, bytes]) -> int:
    """0, which means "look", where the entry says none."""
    said = fields.get(b"watermark", b"")
    return int(said) if said.isdigit() else 0


def fail(ended: asyncio.Future[None], bug: BaseException) -> None:
    if not ended.done():
        ended.set_exception(bug)
