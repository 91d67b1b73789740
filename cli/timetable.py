"""When each job is due: on a fixed grid of its own interval, so turns neither drift nor pile up.

Times are seconds since 1970. A turn that was missed, because another job ran or the machine slept, is made up for once.
Knows neither processes nor what the jobs do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: words of the command line, how often, how long at most, and when it is due next."""

    name: str
    words: tuple[str, ...]
    every_s: float
    limit_s: float
    due: float

    def after(self, began: float) -> Job:
        """The same job after a turn that began then: due at the next place of its grid."""
        missed = max(0, int((began - self.due) // self.every_s))
        return replace(self, due=self.due + (missed + 1) * self.every_s)

    def at(self, due: float) -> Job:
        return replace(self, due=due)


def first_due(every_s: float, last_began: float | None, now: float, at_once: bool) -> float:
    """When a job is due in a scheduler that starts now: an interval after its last turn, whoever watched over that; a
    job that never ran at once, or after an interval."""
    if last_began is None or last_began > now:  # a clock that was set back makes the last turn no reason to wait
        return now if at_once else now + every_s
    return max(last_began + every_s, now)


def next_of(jobs: Sequence[Job]) -> Job:
    """The one that is due first; of several the one named first."""
    return min(jobs, key=lambda job: job.due)
