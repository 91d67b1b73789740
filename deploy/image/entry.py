"""What an image runs: its one service, or the probe of it.

    python entry.py serve [options of the service]
    python entry.py probe

WINNOW_SERVICE, which the image says, names the service; "serving" is all five in one process.
"""

import asyncio
import os
import runpy
import sys
from importlib import import_module

ALL = "serving"


def module_of(service: str) -> str:
    return "services" if service == ALL else f"services.{service}"


def serve(service: str) -> None:
    """As `python -m services.<service>` would."""
    del sys.argv[1]
    runpy.run_module(module_of(service), run_name="__main__", alter_sys=True)


def probe(service: str) -> None:
    """Ends with 0 when the service says that it can work, where its settings let it listen."""
    from winnow.serving.probe import ask, local

    face = "gateway" if service == ALL else service
    settings = import_module(f"services.{face}.settings").Settings()
    # Where probes have a door of their own it is without TLS, of which a probe has no certificate.
    sys.exit(asyncio.run(ask(local(getattr(settings, "health_address", "") or getattr(settings, f"{face}_address")))))


if __name__ == "__main__":
    {"serve": serve, "probe": probe}[sys.argv[1]](os.environ["WINNOW_SERVICE"])
