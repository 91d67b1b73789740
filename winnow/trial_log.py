"""Trials of a search in MLflow, beside the registry's models: one run a search, one nested run a trial.

The same tracking address, time-outs and translated errors as the registry's. What a trial is, is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from winnow.registry import MlflowRegistry, metric_name, translated

EXPERIMENT = "winnow-search"
SEARCH = "winnow.search"  # the tag that names a search: started again, it goes on in the same run
PARENT = "mlflow.parentRunId"
LONGEST_PARAM = 500


class TrialLog(MlflowRegistry):
    """The runs of searches at a registry's address."""

    def __init__(self, uri: str, cache: Path) -> None:
        super().__init__(uri, cache)
        self._run = ""

    @translated
    def begin(self, search: str) -> None:
        """Go on in the run of this search; it is made where there is none."""
        client, experiment = self._open(), self._experiment(EXPERIMENT)
        known = client.search_runs([experiment], f"tags.`{SEARCH}` = '{search}'", max_results=1)
        run = known[0] if known else client.create_run(experiment, run_name=search, tags={SEARCH: search})
        self._run = run.info.run_id

    @translated
    def trial(self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float] | None, words: str = "") -> None:
        """One trial of the search that was begun; without metrics it failed."""
        client, experiment = self._open(), self._experiment(EXPERIMENT)
        run = client.create_run(experiment, run_name=name, tags={PARENT: self._run}).info.run_id
        for key, value in params.items():
            client.log_param(run, metric_name(key), str(value)[:LONGEST_PARAM])
        self._log(run, metrics or {})
        if words:
            client.set_tag(run, "winnow.why", words[:LONGEST_PARAM])
        client.set_terminated(run, "FAILED" if metrics is None else "FINISHED")

    @translated
    def end(self, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """What the search chose, and what that is worth."""
        client = self._open()
        for key, value in params.items():
            client.set_tag(self._run, f"best.{metric_name(key)}", str(value)[:LONGEST_PARAM])
        self._log(self._run, metrics)
        client.set_terminated(self._run)

    def _log(self, run: str, metrics: Mapping[str, float]) -> None:
        for key, number in metrics.items():
            if math.isfinite(number):
                self._open().log_metric(run, metric_name(key), float(number))
