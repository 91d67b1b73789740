"""A search for a model's best settings: tree-structured Parzen estimators (Bergstra et al., 2011; Optuna), within a budget.

The first trial always is the model's own settings. Every trial is kept in a SQLite file as it ends, so that a search which
was stopped, even killed, goes on where it was; what was running then is tried again. At the end the best and the default
settings answer questions that no trial saw. How a model is fitted and asked is the subject's affair; where trials are
logged is the listener's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from training.intervals import Columns, Estimate, of_mean
from winnow.errors import InvalidArgument

Part = Literal["validation", "held out"]
Params = Mapping[str, Any]

METRICS = ("ndcg@10", "ndcg@20", "hr@10", "hr@20")
STARTUP_TRIALS = 8  # at random, before the estimator says anything
SQLITE_WAIT_S = 30
SPENT = "spent_s"  # of a study: what its starts took by the clock, until they last kept something


class Subject(Protocol):
    """What is searched for: a model by its name, what may vary, and the settings that it has."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str:
        """Names data, defaults and space: another key is another search."""
        ...

    @property
    def space(self) -> Mapping[str, BaseDistribution]: ...

    @property
    def defaults(self) -> Params: ...

    @property
    def refits(self) -> int:
        """Fits that the last comparison needs after the trials."""
        ...

    def columns(self, params: Params, part: Part) -> Columns:
        """Fit with these settings on what lies before the part, and measure each of its questions. FloatingPointError,
        ValueError, MemoryError: these settings do not work."""
        ...


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """`minutes` by the clock and `trials` at most (0: without a limit), all starts together and those that did not work,
    too; `metric` is what counts. `began` is when this start did (`time.monotonic`): loading the data counts."""

    minutes: float = 30.0
    trials: int = 0
    metric: str = "ndcg@10"
    seed: int = 0
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial: means over the validation questions; None where the settings did not work, which `words` say."""

    number: int
    params: Params
    metrics: Mapping[str, float] | None
    seconds: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best settings of so many trials; `default` and `best` are means over questions that no trial saw, `gain` their difference in
    pairs."""

    params: Params
    trials: int
    validation: tuple[float, float]  # of the default, of the best
    default: Mapping[str, Estimate]
    best: Mapping[str, Estimate]
    gain: Mapping[str, Estimate]


Listener = Callable[[Tried], None]
"""Told of every trial as it ends."""


def search(subject: Subject, file: Path, settings: SearchSettings, told: Listener = lambda _: None) -> Chosen:
    """Search until the budget is used, and compare. `file` is the SQLite database of all searches of a home.

    Ctrl-C ends it between two trials or within one; the next call goes on.
    """
    if settings.metric not in METRICS:
        raise InvalidArgument(f"one of {', '.join(METRICS)}", field="metric")
    study = opened(subject, file, settings)
    began = settings.began - float(study.user_attrs.get(SPENT, sum(seconds(study))))  # as if all starts were one
    while within(study, settings, subject.refits, time.monotonic() - began):
        trial = study.ask(dict(subject.space))
        told(tried(study, trial, subject, settings.metric))
        study.set_user_attr(SPENT, time.monotonic() - began)
    chosen = compared(subject, study, settings.metric)
    study.set_user_attr(SPENT, time.monotonic() - began)
    return chosen


def opened(subject: Subject, file: Path, settings: SearchSettings) -> optuna.Study:
    """The study of this subject; what was running when it was last left is queued again, the default comes first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{file.absolute()}", engine_kwargs={"connect_args": {"timeout": SQLITE_WAIT_S}}
    )
    study = optuna.create_study(
        storage=storage,
        study_name=f"{subject.name} {settings.metric} {settings.seed} {subject.key}",
        direction="maximize",
        load_if_exists=True,
    )
    begun = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(
        seed=settings.seed + begun, n_startup_trials=STARTUP_TRIALS, multivariate=True
    )
    for left in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(left.number, state=TrialState.FAIL)
        study.enqueue_trial(left.params)
    if not begun:
        study.enqueue_trial({name: subject.defaults[name] for name in subject.space})
    return study


def within(study: optuna.Study, settings: SearchSettings, refits: int, spent_s: float) -> bool:
    """Whether another trial fits, and the comparison after it: each fit would take as long as they usually do."""
    took = seconds(study)
    if not took:
        return True
    if settings.trials and len(took) >= settings.trials:
        return False
    return not settings.minutes or spent_s + (1 + refits) * float(np.median(took)) <= settings.minutes * 60


def seconds(study: optuna.Study) -> list[float]:
    """What each trial took that came to an end."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [float(trial.user_attrs["seconds"]) for trial in ended]


def tried(study: optuna.Study, trial: Trial, subject: Subject, metric: str) -> Tried:
    """Run one trial and keep what it found."""
    started = time.monotonic()
    words, means = "", None
    try:
        columns = subject.columns(trial.params, "validation")
        means = {name: of_mean(column).value for name, column in columns.items()}
    except (FloatingPointError, ValueError, MemoryError) as wrong:
        words = str(wrong)
    took = time.monotonic() - started
    trial.set_user_attr("seconds", took)
    if means is None:
        study.tell(trial, state=TrialState.PRUNED)  # worse than any that worked: the estimator learns from it
    else:
        trial.set_user_attr("metrics", means)
        study.tell(trial, means[metric])
    return Tried(trial.number, trial.params, means, took, words)


def compared(subject: Subject, study: optuna.Study, metric: str) -> Chosen:
    """Best against default, on what the search did not see. InvalidArgument where no trial worked."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        raise InvalidArgument("no settings worked; the log of trials says why", field="model")
    best, first = max(done, key=worth), done[0]
    columns = subject.columns(best.params, "held out")
    before = columns if best.params == first.params else subject.columns(subject.defaults, "held out")
    return Chosen(
        params=dict(best.params),
        trials=len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))),
        validation=(worth(first), worth(best)),
        default={name: of_mean(before[name]) for name in columns},
        best={name: of_mean(own) for name, own in columns.items()},
        gain={name: of_mean(own - before[name]) for name, own in columns.items()},
    )


def worth(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
