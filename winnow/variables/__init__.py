"""Variables of the environment that bear Winnow's prefix and that nobody reads: most often a name is misspelt.

Only the name is said, never the value. What other parts of Winnow read is no mistake: one file of variables may serve
all of them. Nor is what Kubernetes says to a pod of a Service whose name begins with `winnow-`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from winnow.nearest import nearest
from winnow.variables.known import KNOWN

PREFIX = "WINNOW_"
LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")


def unread(environment: Mapping[str, str], own: Iterable[str] = ()) -> Iterator[str]:
    """One line for each. `own` are the settings of this process, which need not be one of ours."""
    known = KNOWN.union(f"{PREFIX}{setting.upper()}" for setting in own)
    for name, value in sorted(environment.items()):
        upper = name.upper()  # settings are found in either case
        linked = LINK.search(name) or (name.endswith("_PORT") and "://" in value)
        if upper.startswith(PREFIX) and upper not in known and not linked:
            alike = nearest(upper.removeprefix(PREFIX), (one.removeprefix(PREFIX) for one in known))
            remedy = f"did you mean {PREFIX}{alike}?" if alike else "docs/operating.md lists what is read"
            yield f"{name} is set, and nothing reads it; {remedy}"
