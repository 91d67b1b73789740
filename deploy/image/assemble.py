"""Put together what one image holds beside its packages: the code of one service, and nothing to build with.

    python assemble.py SERVICE SOURCE ENVIRONMENT

Runs in the build stage of the Dockerfile. Copies the code, removes what only builds need, and compiles the rest, since
nothing can be written where it will run. Knows nothing of what the code does.
"""

import compileall
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

EVERYTHING = ("winnow", "services", "training", "cli", "parts", "bench", "jobs", "feature_repo")
PACKAGES = {
    "serving": ("winnow", "services"),  # all five in one process
    "jobs": ("winnow", "services", "jobs", "feature_repo"),
    "training": EVERYTHING,
}
INSTALLERS = ("uv", "setuptools", "pip")
NEEDLESS = ("*.pyx", "*.pxd", "*.pxi", "*.pyi", "*.c", "*.cc", "*.cpp", "*.h", "*.hpp", "*.a", "*.lib")
TESTS = ("numpy", "pyarrow", "pandas", "scipy", "sklearn")
"""Packages that carry their own tests, hundreds of files that nothing imports."""
KEEPS_PIP = ("training",)  # one data set lies in a wheel that pip downloads when it is asked for


def packages(service: str) -> tuple[str, ...]:
    """What is copied for it, relative to the source."""
    return PACKAGES.get(service, ("winnow", "services/__init__.py", f"services/{service}"))


def copy(service: str, source: Path, code: Path) -> None:
    """The code, the licence, and the program that starts it."""
    for name in (*packages(service), "LICENSE"):
        found, target = source / name, code / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, target, ignore=shutil.ignore_patterns("__pycache__", "*.py[cod]"))
        else:
            shutil.copy2(found, target)
    shutil.copy2(Path(__file__).with_name("entry.py"), code / "entry.py")


def needless(libraries: Path) -> Iterator[Path]:
    """Files and folders that only a compiler, a type checker or a test reads."""
    for pattern in NEEDLESS:
        yield from libraries.rglob(pattern)
    for package in TESTS:
        yield from (libraries / package).rglob("tests")


def remove(service: str, environment: Path) -> None:
    """Everything needless, and last the installers themselves."""
    for path in list(needless(environment / "lib")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    gone = [name for name in INSTALLERS if name != "pip" or service not in KEEPS_PIP]
    subprocess.run([environment / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", *gone], check=True)


def compiled(environment: Path) -> None:
    """Bytecode that is never checked against its source: neither changes, whatever a copy does to their times."""
    kept = ("lib", "code")
    for folder in kept:
        compileall.compile_dir(
            environment / folder, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )


def main() -> None:
    service, source, environment = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    copy(service, source, environment / "code")
    remove(service, environment)
    compiled(environment)


if __name__ == "__main__":
    main()
