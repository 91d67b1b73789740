"""From the cost of one request to pods, cores and memory. Arithmetic alone: what a request costs is measured elsewhere.

A pod does `cores x utilisation` CPU seconds of work a second, so a service that costs c CPU seconds a request needs
q · (1 + headroom) · c / (cores · utilisation) pods for q requests a second. They are spread over zones evenly, and those of the
zones that are left must carry everything when one zone is lost. The model knows queues only through `utilisation`: at a
half of a core, Poisson arrivals wait about one service time (M/M/1), at four fifths about four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

LEAST = 2  # replicas: one may always be restarted
SMALL = 1e-9  # of a pod: what floating point adds to a whole number


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the platform is to carry. `utilisation` of a pod's cores at the peak, `headroom` above the peak, `zones` of
    which one may be lost (1: none), `cores` a pod may use: one process computes on about one."""

    qps: float
    items: int = 100_000
    users: int = 1_000_000
    events_per_user: float = 50.0
    utilisation: float = 0.5
    headroom: float = 0.3
    zones: int = 3
    cores: float = 1.0

    def __post_init__(self) -> None:
        bounds = {
            "qps": 0 < self.qps <= 1e9,
            "items": 1 <= self.items <= 10**10,
            "users": 0 <= self.users <= 10**11,
            "events_per_user": 0 <= self.events_per_user <= 1e6,
            "utilisation": 0 < self.utilisation <= 1,
            "headroom": 0 <= self.headroom <= 10,
            "zones": 1 <= self.zones <= 100,
            "cores": 0 < self.cores <= 1_000,
        }
        for name, fine in bounds.items():
            if not fine:
                raise ValueError(f"{name} = {getattr(self, name):g} makes no sense")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one service: CPU milliseconds a request, and MB of a process: with nothing in it, and for a million items,
    users and events more."""

    cpu_ms: float
    empty_mb: float
    items_mb: float = 0.0
    users_mb: float = 0.0
    events_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """Of one service. `busy` is the share of its cores that is used at the stated rate; `gpus` in all."""

    pods: int
    cores: float
    memory_mb: float  # of one pod
    busy: float
    sums: str  # the arithmetic in words
    gpus: int = 0
    gpu_sums: str = ""

    @property
    def all_memory_mb(self) -> float:
        return self.pods * self.memory_mb


def needs(wanted: Wanted, costs: Mapping[str, Cost]) -> dict[str, Need]:
    """By service."""
    return {service: need(wanted, cost) for service, cost in costs.items()}


def need(wanted: Wanted, cost: Cost) -> Need:
    exact = wanted.qps * (1 + wanted.headroom) * cost.cpu_ms / 1000 / (wanted.cores * wanted.utilisation)
    pods = replicas(exact, wanted.zones)
    sums = (
        f"{wanted.qps:,.0f}/s × {1 + wanted.headroom:g} × {cost.cpu_ms:.3g} ms / ({wanted.cores:g} cores × "
        f"{wanted.utilisation:g}) = {exact:,.1f} pods{zone_sums(wanted.zones)}"
    )
    busy = wanted.qps * cost.cpu_ms / 1000 / (pods * wanted.cores)
    return Need(pods, pods * wanted.cores, memory_mb(wanted, cost), busy, f"{sums} → {pods:,}")


def replicas(exact: float, zones: int) -> int:
    """Whole pods, as many in every zone, so that the zones that are left carry `exact` pods' work."""
    carrying = max(zones - 1, 1)
    return zones * max(math.ceil(exact / carrying - SMALL), math.ceil(LEAST / zones))


def memory_mb(wanted: Wanted, cost: Cost) -> float:
    millions = wanted.items / 1e6, wanted.users / 1e6, wanted.users * wanted.events_per_user / 1e6
    each = cost.items_mb, cost.users_mb, cost.events_mb
    return (1 + wanted.headroom) * (cost.empty_mb + sum(n * mb for n, mb in zip(millions, each, strict=True)))


def on_gpus(wanted: Wanted, need: Need, per_gpu_s: float) -> Need:
    """The same with cards for its models, of which each answers `per_gpu_s` requests a second: at least two, spread as pods are.
    What its processors do besides stays what was measured without a card."""
    exact = wanted.qps * (1 + wanted.headroom) / (per_gpu_s * wanted.utilisation)
    gpus = replicas(exact, wanted.zones)
    sums = (
        f"{wanted.qps:,.0f}/s × {1 + wanted.headroom:g} / ({per_gpu_s:,.0f}/s a card × {wanted.utilisation:g}) = "
        f"{exact:,.1f} cards{zone_sums(wanted.zones)} → {gpus:,}"
    )
    return replace(need, gpus=gpus, gpu_sums=sums)


def zone_sums(zones: int) -> str:
    return f"; with one of {zones} zones lost, × {zones}/{zones - 1}" if zones > 1 else ""
