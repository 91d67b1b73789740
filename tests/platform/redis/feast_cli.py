"""Feast as its users type it, in this process: importing it once is enough."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FeastRepo:
    """A feature repository over one home and one Redis."""

    home: Path
    redis_url: str
    folder: Path

    def feast(self, *words: str) -> str:
        """`feast WORDS`; what it printed."""
        from click.testing import CliRunner
        from feast.cli.cli import cli

        done = CliRunner().invoke(cli, ["--chdir", str(self.folder), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return str(done.output)

    @cached_property
    def store(self) -> Any:
        from feast import FeatureStore

        return FeatureStore(str(self.folder))
