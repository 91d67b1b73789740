"""Who is compared, and in which environment each of them lives."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PINS = Path(__file__).parent / "pins"
ADAPTERS = "bench.peers.adapters"


@dataclass(frozen=True, slots=True)
class Peer:
    """One model of one recommender. `pins` is empty for what runs in Winnow's own environment; `served`: it brings a
    server, whose face for the load generator has the peer's name."""

    name: str
    model: str
    version: str
    pins: str = ""
    adapter: str = ""
    served: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} {self.version} {self.model.upper()}".replace("  ", " ")

    @property
    def key(self) -> str:
        return f"{self.name}-{self.model}"

    @property
    def module(self) -> str:
        return self.adapter or f"{ADAPTERS}.{self.name}"

    def python(self, environments: Path) -> Path:
        return environments / self.pins / "bin" / "python" if self.pins else Path(sys.executable)


ROSTER = (
    Peer("winnow", "markov", ""),
    Peer("winnow", "ease", ""),
    *([Peer("winnow", "als", "")] if find_spec("training.models.als") else []),
    Peer("implicit", "als", "0.7.3", "implicit"),
    Peer("librecommender", "als", "1.5.2", "librecommender"),
    Peer("rectools", "ease", "0.19.0", "rectools"),
    Peer("rectools", "als", "0.19.0", "rectools"),
    Peer("corerec", "ease", "0.6.0", "corerec", served=True),
)
