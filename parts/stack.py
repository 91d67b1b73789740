"""Everything `make up` starts on one machine, in order: parts first, then the services that use them.

What was started, and on which ports, is kept in the stack's folder, so that `make down` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from parts.kafka import kafka
from parts.mlflow import mlflow
from parts.program import HOST, Program, find, ports_near
from parts.redis import redis
from parts.schedule import schedule
from parts.services import INNER, environment, gateway, inner
from parts.spark import spark
from parts.triton import repository_of, triton
from winnow.errors import FailedPrecondition

PARTS = ("redis", "kafka", "mlflow", "triton", "spark")
SCHEDULE = "schedule"  # a further part, of a stack that trains by the clock
PORTS = {
    "rest": 8080,
    "gateway": 50050,
    "feature": 50051,
    "retrieval": 50052,
    "ranking": 50053,
    "explanation": 50054,
    "redis": 6379,
    "kafka": 9092,
    "mlflow": 5000,
    "triton": 8001,
    "triton_http": 8000,
    "spark": 9095,
    "schedule": 9096,
}
NOTE = "stack.json"


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts named, and the five services over the home `home`; everything else lies in `folder`."""

    folder: Path
    home: Path
    parts: tuple[str, ...] = PARTS
    ports: dict[str, int] = field(default_factory=dict)
    through: dict[str, int] = field(default_factory=dict)
    """Ports that others are told instead of a program's own: those of proxies before it."""
    tuning: dict[str, str] = field(default_factory=dict)
    """Further settings of the services."""

    @classmethod
    def planned(cls, folder: Path, home: Path, parts: tuple[str, ...] = PARTS) -> Stack:
        """A new stack on the usual ports, or others where those are taken; the one that is up stays as it is."""
        for name in parts:
            if name not in (*PARTS, SCHEDULE):
                raise FailedPrecondition(f"no part {name!r}; there are {', '.join(PARTS)}")
        before = cls.noted(folder)
        if before is not None and any(find(program) for program in before.programs()):
            if (before.home, before.parts) != (home.absolute(), parts):
                raise FailedPrecondition(f"another stack is up, over {before.home}; make down ends it")
            return before
        ports = dict(zip(PORTS, ports_near([*PORTS.values()]), strict=True))
        return cls(folder.absolute(), home.absolute(), parts, ports)

    @classmethod
    def noted(cls, folder: Path) -> Stack | None:
        """The stack that was started last, or None."""
        file = folder / NOTE
        if not file.is_file():
            return None
        known = json.loads(file.read_text("utf-8"))
        return cls(folder.absolute(), Path(known["home"]), tuple(known["parts"]), known["ports"])

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        known = {"home": str(self.home), "parts": self.parts, "ports": self.ports}
        (self.folder / NOTE).write_text(json.dumps(known, indent=1), "utf-8")

    def programs(self) -> list[Program]:
        """In the order of starting. FailedPrecondition where one is not installed."""
        return [program for wave in self.waves() for program in wave]

    def waves(self) -> list[list[Program]]:
        """Programs that start side by side, wave by wave: what the parts hold, the services read at once, and what the
        scheduler refreshes must serve first. FailedPrecondition where one is not installed."""
        makers: dict[str, Callable[[], Program]] = {
            "redis": lambda: redis(self.folder / "redis", self.ports["redis"]),
            "kafka": lambda: kafka(self.folder / "kafka", self.ports["kafka"]),
            "mlflow": lambda: mlflow(self.home, self.ports["mlflow"]),
            "triton": lambda: triton(self.folder / "triton", self.ports["triton"], self.ports["triton_http"]),
            "spark": lambda: spark(
                self.folder / "spark", self.address("kafka"), self.home, self.redis_url, self.ports["spark"]
            ),
        }
        folder = self.folder / "services"
        services = [inner(name, folder, self.ports[name], self.settings(name)) for name in INNER]
        services.append(gateway(folder, self.ports["rest"], self.settings("gateway")))
        parts = [make() for name, make in makers.items() if name in self.parts]
        return [parts, services, [self.scheduler()] if SCHEDULE in self.parts else []]

    def scheduler(self) -> Program:
        registry = f"http://{self.address('mlflow')}" if "mlflow" in self.parts else ""
        return schedule(self.folder / "schedule", self.home, registry, self.ports["schedule"])

    @property
    def redis_url(self) -> str:
        return f"redis://{self.address('redis')}/0"

    def address(self, name: str) -> str:
        """Where others reach it."""
        return f"{HOST}:{self.through.get(name, self.ports[name])}"

    def settings(self, service: str) -> dict[str, str]:
        """The environment of a service: where it listens, where the others are, and the parts that there are."""
        found = environment(self.home, {**self.ports, **self.through, service: self.ports[service]}) | self.tuning
        if "kafka" in self.parts:
            found["WINNOW_KAFKA_BOOTSTRAP"] = self.address("kafka")
        if "mlflow" in self.parts:
            found["WINNOW_MLFLOW_URI"] = f"http://{self.address('mlflow')}"
        if "redis" in self.parts:
            found["WINNOW_REDIS_URL"] = self.redis_url
        if "triton" in self.parts:
            found["WINNOW_TRITON_ADDRESS"] = self.address("triton")
            found["WINNOW_TRITON_REPOSITORY"] = str(repository_of(self.folder / "triton").absolute())
        return found
