"""Generate winnow/v1 from protos/winnow/v1, or prove that what is committed is what would be generated.

Path, proto package and Python package are the same words, so the generated imports need no repair. Messages and
services come with stubs, so that mypy sees their fields.
"""

import argparse
import sys
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("winnow/v1")
MODULE = '"""Generated from protos/winnow/v1 by `make proto`; never edited."""\n'


def generate(root: Path, into: Path) -> dict[str, bytes]:
    """File name to contents of the whole generated package."""
    protos = sorted(str(path) for path in (root / "protos" / PACKAGE).glob("*.proto"))
    if not protos:
        raise SystemExit(f"no .proto file in protos/{PACKAGE}")
    scripts = Path(sysconfig.get_path("scripts"))
    arguments = [f"--proto_path={root / 'protos'}", f"--proto_path={files('grpc_tools') / '_proto'}"]
    arguments += [f"--{plugin}_out={into}" for plugin in ("python", "grpc_python")]
    for plugin in ("mypy", "mypy_grpc"):  # named by path: the environment need not be active
        arguments += [
            f"--plugin=protoc-gen-{plugin}={scripts / f'protoc-gen-{plugin}'}",
            f"--{plugin}_out=quiet:{into}",
        ]
    if protoc.main(["protoc", *arguments, *protos]):
        raise SystemExit("protoc refused protos/winnow/v1; its reason is above")
    (into / PACKAGE / "__init__.py").write_text(MODULE)
    return contents(into / PACKAGE)


def contents(package: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in package.glob("*.py*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when winnow/v1 is stale")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    package = arguments.root / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        wanted = generate(arguments.root, Path(folder))
    present = contents(package)
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if arguments.check and stale:
        sys.exit(f"winnow/v1 is not what protos/winnow/v1 generates, run `make proto`: {', '.join(stale)}")
    if not arguments.check:
        package.mkdir(parents=True, exist_ok=True)
        for name in stale:
            (package / name).write_bytes(wanted[name]) if name in wanted else (package / name).unlink()


if __name__ == "__main__":
    main()
