"""The one place that knows Redis's client: connections whose every wait is bounded, and its errors in our words.

A connection does not retry: whoever waits for Redis decides what a failure means, and a retry would double the wait.
An address may hold a password and never enters a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from winnow.errors import DeadlineExceeded, FailedPrecondition, Unavailable


def connect(url: str, timeout_s: float) -> Redis:
    """A client that connects when it is first used and holds one connection. FailedPrecondition for a bad address."""
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
            max_connections=4,
            health_check_interval=0,
        )
    except ValueError as wrong:
        raise FailedPrecondition("the address of Redis must be redis://host:port/database") from wrong


@contextmanager
def translated() -> Iterator[None]:
    """DeadlineExceeded where Redis did not answer in time, Unavailable for all else that it or the network says."""
    try:
        yield
    except exceptions.TimeoutError as late:
        raise DeadlineExceeded("Redis did not answer in time") from late
    except (exceptions.RedisError, OSError) as away:
        raise Unavailable(f"Redis: {type(away).__name__}") from away


class Hashes:
    """Reads many hashes in one round trip (`winnow.feast_layout.Hmgets`)."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def __call__(self, wanted: Sequence[tuple[bytes, Sequence[bytes]]]) -> Sequence[Sequence[bytes | None]]:
        found: Any
        with translated():
            if len(wanted) == 1:
                found = [self._client.execute_command("HMGET", wanted[0][0], *wanted[0][1])]
            else:
                pipe = self._client.pipeline(transaction=False)
                for key, fields in wanted:
                    pipe.execute_command("HMGET", key, *fields)
                found = pipe.execute()
        return found  # type: ignore[no-any-return]
