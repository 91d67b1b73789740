"""Run images as a cluster would, with runc: each image's own user, command and health check, nothing more allowed.

Knows how to start, ask and stop them; what they are is in the images.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

PORTS = {"gateway": 50050, "feature": 50051, "retrieval": 50052, "ranking": 50053, "explanation": 50054}
HEALTHY_S = 120.0
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
WRITE = "open('/opt/winnow/code/x', 'w')"
Buildah = Callable[..., str]


def spec(
    config: Mapping[str, Any], system: str, home: Path, settings: Mapping[str, str], network: str
) -> dict[str, Any]:
    """A runc bundle's config.json. `network`: the path of a network namespace, or "" for a new one without a route."""
    user, _, group = config["User"].partition(":")
    nothing = {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    writable = ["nosuid", "nodev"]
    mounts = [
        ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
        ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/tmp", "tmpfs", "tmpfs", [*writable, "mode=1777", "size=262144k"]),
        (str(home), "bind", str(home), ["rbind", "rw", *writable]),
    ]
    spaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": int(user), "gid": int(group)},
            "args": [*config["Entrypoint"], *(config.get("Cmd") or [])],
            "env": [*config["Env"], *(f"{name}={value}" for name, value in settings.items())],
            "cwd": config["WorkingDir"],
            "capabilities": nothing,
            "noNewPrivileges": True,
        },
        "root": {"path": system, "readonly": True},
        "mounts": [
            {"destination": place, "type": kind, "source": source, "options": options}
            for place, kind, source, options in mounts
        ],
        "linux": {"namespaces": [*spaces, {"type": "network", **({"path": network} if network else {})}]},
    }


def runc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["runc", "--root", str(folder / "runc"), *arguments], capture_output=True, text=True)


@contextmanager
def container(name: str, folder: Path, made: Mapping[str, Any]) -> Iterator[int]:
    """One running container and the process in it; gone afterwards."""
    bundle = folder / "bundles" / name
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(made))
    command = ["runc", "--root", str(folder / "runc"), "run", "--detach", "--bundle", str(bundle)]
    with (bundle / "log").open("wb") as log:
        subprocess.run([*command, "--pid-file", str(bundle / "pid"), name], stdout=log, stderr=log, check=True)
    try:
        yield int((bundle / "pid").read_text())
    finally:
        runc(folder, "delete", "--force", name)


def healthy(name: str, folder: Path, check: list[str]) -> float:
    """Seconds until the image's own health check answers; SystemExit with the log when it never does."""
    began = time.monotonic()
    while (asked := runc(folder, "exec", name, *check)).returncode:
        if time.monotonic() - began > HEALTHY_S:
            log = (folder / "bundles" / name / "log").read_text()[-2000:]
            raise SystemExit(f"{name} is not healthy: {asked.stderr.strip()}\n{log}")
        time.sleep(0.5)
    return time.monotonic() - began


def prove(services: tuple[str, ...], folder: Path, home: Path, buildah: Buildah) -> None:
    """All services from their images over a home, until each is healthy and the gateway recommends."""
    settings = {f"WINNOW_{name.upper()}_ADDRESS": f"0.0.0.0:{port}" for name, port in PORTS.items()}
    settings |= {"WINNOW_HOME": str(home), "WINNOW_REST_ADDRESS": "0.0.0.0:8080"}
    network, checks = "", {}
    with ExitStack() as stack:
        for name in services:
            image = f"localhost/winnow-{name}"
            config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
            checks[name] = config["Healthcheck"]["Test"][1:]
            mounted = buildah("from", "--pull-never", image)
            stack.callback(buildah, "rm", mounted)
            made = spec(config, buildah("mount", mounted), home, settings, network)
            process = stack.enter_context(container(name, folder, made))
            network = network or f"/proc/{process}/ns/net"
        for name in services:
            print(f"{name:<12} healthy after {healthy(name, folder, checks[name]):.1f} s more", flush=True)
        answer = recommended(folder, services[0])
        print(f"answered: {len(answer['items'])} items, skipped: {answer['skipped'] or 'nothing'}")
        refused(folder, services[0])


def recommended(folder: Path, gateway: str) -> dict[str, Any]:
    """What somebody new gets, asked from inside: nothing leads there from outside."""
    asked = runc(
        folder, "exec", gateway, "python", "-c", ASK, "http://127.0.0.1:8080/v1/recommendations?session_id=x&n=5"
    )
    if asked.returncode:
        raise SystemExit(asked.stderr)
    answer: dict[str, Any] = json.loads(asked.stdout)
    if len(answer["items"]) != 5 or answer["skipped"]:
        raise SystemExit(f"not a full answer: {asked.stdout}")
    return answer


def refused(folder: Path, gateway: str) -> None:
    """The code cannot be written, and whoever runs it is nobody in particular."""
    wrote = runc(folder, "exec", gateway, "python", "-c", WRITE)
    who = runc(folder, "exec", gateway, "id", "-u").stdout.strip()
    if "Read-only file system" not in wrote.stderr or who == "0":
        raise SystemExit(f"user {who} could write: {wrote.stderr}")
    print(f"user {who}, read-only root: kept")
