"""What `python -m jobs.…` programs agree on: how they log, what their options mean, and how they end.

An expected error is one line on stderr. 0: done, 1: something is wrong, 2: the command is, 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from winnow.errors import InvalidArgument, WinnowError
from winnow.secrets import REDIS_SCHEMES
from winnow.serving.repeats import Repeats
from winnow.variables import unread

NUMBER = re.compile(r"\d+(\.\d*)?")
BROKER = re.compile(r"[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")
WRONG, MISUSED, INTERRUPTED = 1, 2, 130


def talkative() -> None:
    """Progress on stderr; first what of the environment nobody reads."""
    handler = logging.StreamHandler()
    handler.addFilter(Repeats("kafka"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[handler])
    logging.getLogger("py4j").setLevel(logging.WARNING)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    for words in unread(os.environ):
        logging.getLogger(__name__).warning("%s", words)


def ended(main: Callable[[], int]) -> NoReturn:
    """Run a program and end as it says."""
    try:
        status = main()
    except WinnowError as wrong:
        field = f"{wrong.field}: " if wrong.field else ""
        sys.stderr.write(f"error: {field}{wrong.detail}\n")
        status = MISUSED if isinstance(wrong, InvalidArgument) else WRONG
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def home_folder(text: str) -> Path:
    """A folder that is there."""
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return folder


def root(text: str) -> str:
    """A folder, which need not be there yet, or an address that Spark writes to."""
    return text.rstrip("/") if "://" in text else str(Path(text).absolute())


def brokers(text: str) -> str:
    """host:port, several with commas."""
    if not all(BROKER.fullmatch(one) for one in text.split(",")):
        raise argparse.ArgumentTypeError("host:port, several with commas")
    return text


def redis_url(text: str) -> str:
    """Its password is not repeated when it is wrong."""
    if not text.startswith(REDIS_SCHEMES):
        raise argparse.ArgumentTypeError("an address like redis://host:6379/0")
    return text


def moment(text: str) -> float:
    """Seconds since 1970, from a number or from ISO 8601; a time without a zone is of UTC."""
    try:
        at = datetime.fromtimestamp(float(text), UTC) if NUMBER.fullmatch(text) else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as wrong:
        raise argparse.ArgumentTypeError(f"{text} is no time; for example 2026-01-31T12:00:00Z") from wrong
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def above(low: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    """A number larger than `low`."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > low:
            raise argparse.ArgumentTypeError(f"must be more than {low:g}")
        return value

    return number
