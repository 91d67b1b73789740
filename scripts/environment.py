"""Install the locked environment, or lock it again. Run by the interpreter of the environment that it fills.

    .venv/bin/python scripts/environment.py install [extra ...]     all extras, or a serving image's own one
    .venv/bin/python scripts/environment.py lock                    after an edit of the ranges in pyproject.toml
    .venv/bin/python scripts/environment.py apart FOLDER LOCK       another environment than Winnow's own
    .venv/bin/python scripts/environment.py pin WANTED LOCK         after an edit of what another environment wants

uv does the work in seconds where pip takes minutes. uv does not read pip's configuration, so this passes on where pip
has been told to look: indexes, wheel folders, certificates, proxies. Knows nothing of any host or machine.

How the two builds of torch share one lock. PyPI's Linux wheel pulls gigabytes of CUDA; the CPU build carries the local
version `+cpu` and needs none of them. The lock has the pins of PyPI's build with its CUDA closure, and under torch the
hashes of the CPU wheels as well. The lock is used as constraints on pyproject.toml, never as the list to install: what
the CPU build does not ask for is not installed, and whatever is installed must have a hash in it.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "requirements.lock"
STAMP = ".ready"
HEADER = """\
# Every package that Winnow may install, with its hashes. Written by `make lock`; scripts/environment.py installs it.
"""


def pip_configuration(listing: str) -> dict[str, str]:
    """What `pip config list` prints, as {option: value}; the environment wins over files, `install` over `global`."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.partition(".")
        if separator and section in rank and rank[section] >= found.get(option.strip("."), (0, ""))[0]:
            found[option.strip(".")] = (rank[section], str(ast.literal_eval(value)))
    return {option: value for option, (_, value) in found.items()}


def uv_variables(pip: dict[str, str]) -> dict[str, str]:
    """pip's settings in uv's words. Variables, not arguments: an index address may carry a password."""
    variables = {
        "UV_SYSTEM_CERTS": "true",
        "UV_PYTHON_DOWNLOADS": "never",
        # pip takes the best version of all indexes; uv would stop at the first index that knows the name.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    for option, names, separator in (
        ("index-url", ("UV_DEFAULT_INDEX",), " "),
        ("extra-index-url", ("UV_EXTRA_INDEX_URL",), " "),
        ("find-links", ("UV_FIND_LINKS",), ","),
        ("trusted-host", ("UV_INSECURE_HOST",), " "),
        ("cert", ("SSL_CERT_FILE",), " "),
        ("proxy", ("HTTPS_PROXY", "HTTP_PROXY"), " "),
        ("timeout", ("UV_HTTP_TIMEOUT",), " "),
    ):
        if pip.get(option):
            variables |= dict.fromkeys(names, separator.join(pip[option].split()))
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        variables["UV_NO_INDEX"] = "true"
    return variables


def pinned(lock: str, package: str) -> tuple[str, list[str]]:
    """The version and the hashes that the lock gives a package."""
    entry = re.search(rf"^{package}==(\S+)((?: \\\n    --hash=\S+)+)", lock, re.MULTILINE)
    if entry is None:
        raise SystemExit(f"{LOCK.name} does not pin {package}: run `make lock`")
    return entry[1], re.findall(r"--hash=(\S+)", entry[2])


def with_torch(lock: str, version: str, hashes: list[str]) -> str:
    """The same lock with another torch in it."""
    entry = f"torch=={version}" + "".join(f" \\\n    --hash={hash}" for hash in hashes)
    return re.sub(r"^torch==\S+(?: \\\n    --hash=\S+)+", lambda _: entry, lock, flags=re.MULTILINE)


def ask_pip(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, capture_output=True, text=True).stdout


@cache
def configured() -> dict[str, str]:
    return pip_configuration(ask_pip("config", "list"))


def bootstrap_uv(lock: str) -> None:
    """The locked uv, by pip, which knows its own configuration."""
    version, hashes = pinned(lock, "uv")
    found = subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, text=True)
    if found.stdout.split()[1:2] == [version]:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"uv=={version} " + " ".join(f"--hash={hash}" for hash in hashes))
        requirements.flush()
        arguments = ["install", "-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        subprocess.run([sys.executable, "-m", "pip", *arguments, "-r", requirements.name], check=True)


def uv(
    *arguments: str, without: frozenset[str] = frozenset(), python: str = sys.executable
) -> "subprocess.CompletedProcess[str]":
    """Run uv on the environment of `python`, this one unless another is named. What the caller's environment says to uv
    wins over what pip's configuration says."""
    variables = uv_variables(configured()) | dict(os.environ)
    kept = {name: value for name, value in variables.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-m", "uv", *arguments, "--python", python], env=kept, text=True, capture_output=True
    )


def report(result: "subprocess.CompletedProcess[str]") -> None:
    """Stop with uv's own words if it failed, else say its one line of what it did."""
    if result.returncode:
        raise SystemExit(result.stderr.strip())
    for line in result.stderr.splitlines():
        if line.startswith("Installed"):
            print(line)


def install(extras: list[str]) -> None:
    """Exactly what the extras need, each file checked against the lock, and Winnow itself in place."""
    lock = LOCK.read_text()
    bootstrap_uv(lock)
    if "training" in extras:
        version, hashes = pinned(lock, "torch")
        if uv("pip", "install", "--dry-run", "--no-deps", f"torch=={version}+cpu").returncode == 0:
            lock = with_torch(lock, f"{version}+cpu", hashes)
        else:
            print(
                f"torch {version}: no CPU build where pip looks, so the default build is installed, on Linux with 4 GB of"
                " CUDA libraries; PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL can name a place with CPU builds"
            )
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(lock)
        constraints.flush()
        chosen = [word for extra in extras for word in ("--extra", extra)]
        options = ["--require-hashes", "--exact", "--constraints", constraints.name]
        report(uv("pip", "install", *options, "-r", str(PROJECT), *chosen))
    if "dev" in extras:  # a build backend is there; an image copies the packages instead
        report(uv("pip", "install", "--no-deps", "--no-build-isolation", "--quiet", "--editable", str(ROOT)))


def apart(folder: Path, pins: Path) -> None:
    """An environment beside Winnow's own, with exactly what `pins` lists, each file checked against its hashes. The
    stamp is a copy of the pins that were installed: what is there already is left alone."""
    stamp, wanted = folder / STAMP, pins.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    bootstrap_uv(LOCK.read_text(encoding="utf-8"))
    report(uv("venv", "--clear", "--quiet", str(folder)))
    python = str(folder / "bin" / "python")
    report(uv("pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(pins), python=python))
    stamp.write_text(wanted, encoding="utf-8")


def pin(wanted: Path, pins: Path) -> None:
    """Resolve what another environment wants into pins with hashes; pins that still fit are kept."""
    bootstrap_uv(LOCK.read_text(encoding="utf-8"))
    options = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--generate-hashes"]
    report(uv("pip", "compile", str(wanted), *options, "--quiet", "--output-file", str(pins)))


def lock(upgrade: bool, constraints: list[str]) -> None:
    """Resolve the ranges from the index alone, keep the pins that still fit, and add the CPU builds of torch."""
    before = LOCK.read_text() if LOCK.exists() else ""
    options = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--generate-hashes"]
    options += ["--python-version", "3.11"]  # the oldest, which needs most: Debian 12 has 3.11.2
    options += ["--upgrade"] if upgrade else []
    options += [word for path in constraints for word in ("--constraints", path)]
    nearby = frozenset({"UV_FIND_LINKS", "UV_EXTRA_INDEX_URL"})  # they may hold a `+cpu` that only this machine has
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as output:
        output.write(before)
        output.flush()
        compiled = ["pip", "compile", str(PROJECT), "--all-extras", *options, "--quiet", "--output-file", output.name]
        report(uv(*compiled, without=nearby))
        after = Path(output.name).read_text()
    version, hashes = pinned(after, "torch")
    LOCK.write_text(HEADER + with_torch(after, version, sorted({*hashes, *cpu_hashes(version, before)})))


def cpu_hashes(version: str, before: str) -> list[str]:
    """Hashes of the CPU builds of this torch, as pip's configured places or the lock so far have them."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write(f"torch=={version}+cpu\n")
        wanted.flush()
        found = uv("pip", "compile", wanted.name, "--no-deps", "--generate-hashes", "--no-annotate", "--no-header")
    if found.returncode == 0:
        return re.findall(r"--hash=(\S+)", found.stdout)
    if f"torch=={version} " in before:
        return pinned(before, "torch")[1]
    print(f"no CPU build of torch {version} where pip looks: machines that have one will refuse it by its hash")
    return []


def main() -> None:
    extras = sorted(tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("install").add_argument("extras", nargs="*", help=f"any of {', '.join(extras)}; none means all")
    locking = verbs.add_parser("lock")
    locking.add_argument("--upgrade", action="store_true", help="take the newest versions that the ranges allow")
    locking.add_argument("--constraints", action="append", default=[], help="a file of pins to stay within")
    for verb, first, second in (("apart", "folder", "pins"), ("pin", "wanted", "pins")):
        other = verbs.add_parser(verb)
        other.add_argument(first, type=Path)
        other.add_argument(second, type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "install":
        install(arguments.extras or extras)
    elif arguments.verb == "apart":
        apart(arguments.folder, arguments.pins)
    elif arguments.verb == "pin":
        pin(arguments.wanted, arguments.pins)
    else:
        bootstrap_uv(LOCK.read_text()) if LOCK.exists() else ask_pip("install", "uv")
        lock(arguments.upgrade, arguments.constraints)


if __name__ == "__main__":
    main()
