"""Put together what one image holds beside its packages: the code of one service, and nothing to build with.

    python assemble.py SERVICE SOURCE ENVIRONMENT

Runs in the build stage of the Dockerfile. Copies the code, removes what only builds need, and compiles what the code
imports, since nothing can be written where it will run. Knows nothing of what the code does.
"""

import ast
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # of another image, or of a machine with a GPU
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print(json.dumps(sorted(filter(None, files))))
"""
EVERYTHING = ("winnow", "services", "training", "cli", "parts", "bench", "jobs", "feature_repo")
PACKAGES = {
    "serving": ("winnow", "services"),  # all five in one process
    "jobs": ("winnow", "services", "jobs", "feature_repo"),
    "training": EVERYTHING,
    "mlflow": (),
}
INSTALLERS = ("uv", "setuptools", "pip")
NEEDLESS = ("*.pyx", "*.pxd", "*.pxi", "*.pyi", "*.c", "*.cc", "*.cpp", "*.h", "*.hpp", "*.a", "*.lib")
TESTS = ("numpy", "pyarrow", "pandas", "scipy", "sklearn")
"""Packages that carry their own tests, hundreds of files that nothing imports."""
UNUSED = (
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C: Python's own module has all of it once more
    "pyarrow/libarrow_flight.so.*",  # Arrow's own way over the network
    "pyarrow/_flight.*",
    "pyarrow/libarrow_python_flight.so*",
    "pyarrow/libarrow_python.so",  # copies of libarrow_python.so.<major>, for linking
    "pyarrow/libarrow_python.so.*.*",
    "numpy/f2py",
)
OFFLINE = ("onnxruntime/quantization", "onnxruntime/tools", "onnxruntime/transformers")
"""What only makes models."""
WITH_SYMBOLS = ("uvloop", "ml_dtypes", "pyarrow", "yaml", "xxhash", "cryptography", "rapidjson*.so")
"""Packages built with symbols for a debugger, together 70 MB. Not those with a folder of patched libraries beside them."""
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
    """Files and folders that only a compiler, a type checker, a test or nobody reads."""
    for pattern in NEEDLESS:
        yield from libraries.rglob(pattern)
    for pattern in UNUSED:
        yield from libraries.glob(pattern)
    for package in TESTS:
        yield from (libraries / package).rglob("tests")


def remove(service: str, environment: Path) -> None:
    """Everything needless, and last the installers themselves."""
    libraries = environment / "lib" / "python3.11" / "site-packages"
    offline = [] if service == "training" else [libraries / name for name in OFFLINE]
    for path in (*needless(libraries), *filter(Path.exists, offline)):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    heavy = [file for name in WITH_SYMBOLS for found in libraries.glob(name) for file in shared(found)]
    if heavy:
        subprocess.run(["strip", "--strip-unneeded", *heavy], check=True)
    gone = [name for name in INSTALLERS if name != "pip" or service not in KEEPS_PIP]
    subprocess.run([environment / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes", *gone], check=True)


def shared(found: Path) -> list[Path]:
    """Shared objects: the file itself, or all of a folder."""
    return [found] if found.is_file() else [file for file in found.rglob("*.so*") if not file.is_symlink()]


def names(code: Path) -> list[str]:
    """Modules that the code imports, wherever in it."""
    nodes = [node for file in code.rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return sorted(plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level})


def imported(environment: Path) -> list[Path]:
    """Files that are read when the code runs: what it imports, and what that imports."""
    code = environment / "code"
    quiet = {"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    ran = subprocess.run(
        [environment / "bin" / "python", "-c", IMPORTS, *names(code)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=True,
    )
    found = map(Path, json.loads(ran.stdout.splitlines()[-1]))
    return sorted({*found, *code.rglob("*.py")})


def compiled(environment: Path) -> None:
    """Bytecode of what is imported, never checked against its source: neither changes, whatever a copy does to their
    times. Of everything it would be 100 MB."""
    for file in imported(environment):
        if environment in file.parents and file.suffix == ".py":
            py_compile.compile(str(file), quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def main() -> None:
    service, source, environment = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    copy(service, source, environment / "code")
    remove(service, environment)
    compiled(environment)


if __name__ == "__main__":
    main()
