"""Prometheus: scrapes what the services count, evaluates the rules, answers the dashboards' queries."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from parts.probe import answers
from parts.program import HOST, Program
from winnow.errors import FailedPrecondition

NAME = "prometheus.yml"


def prometheus(folder: Path, port: int) -> Program:
    """Debian's server over the configuration in `folder` (`configure`); what it keeps lies there too."""
    server = shutil.which("prometheus")
    if server is None:
        raise FailedPrecondition("prometheus is missing; apt-get install prometheus")
    options = {
        "config.file": str(folder.absolute() / NAME),
        "storage.tsdb.path": str(folder.absolute() / "data"),
        "web.listen-address": f"{HOST}:{port}",
        "enable-feature": "exemplar-storage",
    }
    command = (server, *(f"--{name}={value}" for name, value in options.items()))
    return Program("prometheus", command, folder, lambda: answers(port, "/-/ready"), ready_s=30.0)


def configure(folder: Path, targets: Mapping[str, int], rules: Sequence[Path], *, every_s: float) -> None:
    """Scrape each of these ports as a job of its own."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"{HOST}:{port}"]}]} for job, port in targets.items()]
    times = {"scrape_interval": interval(every_s), "evaluation_interval": interval(every_s)}
    document = {"global": times, "rule_files": [str(rule.absolute()) for rule in rules], "scrape_configs": jobs}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(yaml.safe_dump(document), encoding="utf-8")


def interval(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
