"""SIGTERM and SIGINT ask a process to finish what is in flight and end."""

from __future__ import annotations

import asyncio
import signal


async def until_stopped() -> None:
    """Returns at the first SIGTERM or SIGINT; a second one then ends the process at once."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
