"""Build the images without Docker, and run all five services from them: `make images`.

    .venv/bin/python scripts/images.py [service ...]        the five services where none is named

buildah builds the Dockerfile as it is on a bare Debian with Python, made by debootstrap, in place of its base image.
Then runc starts them as a cluster would: not as root, without capabilities, on a read-only root file system, in a
network that leads nowhere. Each must call itself healthy, and the gateway must recommend. Prints sizes, fails above
the limits. Needs root and Debian's buildah, debootstrap and runc; keeps everything in build/images.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import environment
from containers import prove

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "images"
SUITE = "bookworm"
BASE, BUILDER = "localhost/base", "localhost/builder"
SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
OTHERS = {
    "jobs": ("jobs", "data"),
    "training": ("training", "training"),
    "mlflow": ("mlflow", "mlflow"),
    "serving": ("service", "serving"),
}
"""Target and extra of the images that are no service of their own."""
MB = 1_000_000
LIMITS_MB = dict.fromkeys(SERVICES, 500) | {"serving": 500, "jobs": 1_000}
APT = ("/var/cache/apt", "/var/lib/apt/lists", "/var/log")
MANUALS = tuple(f"/usr/share/{name}" for name in ("doc", "man", "info", "locale", "lintian"))


def buildah(*arguments: str, **more: str) -> str:
    """buildah on a store of its own."""
    places = ("--root", str(FOLDER / "store"), "--runroot", str(FOLDER / "run"))
    done = subprocess.run(["buildah", *places, *arguments], capture_output=True, text=True, env=os.environ | more)
    if done.returncode:
        raise SystemExit(f"buildah {arguments[0]}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout.strip()


def have(image: str) -> bool:
    return image in buildah("images", "--format", "{{.Name}}").split()


def base() -> None:
    """A Debian with Python and nothing else, as slim as the official image: no manuals, no lists of packages."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        system = Path(folder) / "system"
        include = "--include=ca-certificates,python3.11"
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", include, SUITE, system], capture_output=True, text=True
        )
        if made.returncode:
            raise SystemExit(f"debootstrap:\n{made.stdout[-2000:]}")
        for name in (*APT, *MANUALS):
            for path in (system / name.lstrip("/")).glob("*"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, str(system), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--quiet", "--rm", container, BASE)


def builder() -> None:
    """The same with venv and pip, which the official image has."""
    container = buildah("from", "--isolation", "chroot", BASE)
    install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3.11-venv"
    buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", install)
    buildah("commit", "--quiet", "--rm", container, BUILDER)


def pip_file(folder: Path) -> Path:
    """Where pip looks here, for the build alone."""
    file = folder / "pip.conf"
    wanted = configparser.RawConfigParser()
    wanted["global"] = {name: value.replace("\n", " ") for name, value in environment.configured().items()}
    file.touch(0o600)
    with file.open("w", encoding="utf-8") as stream:
        wanted.write(stream)
    return file


def folders() -> list[str]:
    """Folders and files of this machine that pip's settings name: the build sees them in their places. The links of an
    index that is a folder lead beside it."""
    words = " ".join(environment.configured().values()).split()
    paths = {str(Path(urlsplit(word).path).parent) if word.startswith("file://") else word for word in words}
    return sorted(path for path in paths if path.startswith("/") and Path(path).exists())


def build(service: str) -> None:
    """The image localhost/winnow-<service>, from the real Dockerfile."""
    target, extra = OTHERS.get(service, ("service", service))
    said = {"BASE": BASE, "BUILDER": BUILDER, "SERVICE": service, "EXTRA": extra}
    options = [word for name, value in said.items() for word in ("--build-arg", f"{name}={value}")]
    options += [word for path in folders() for word in ("--volume", f"{path}:{path}:ro")]
    with tempfile.TemporaryDirectory() as folder:
        options += ["--secret", f"id=pip,src={pip_file(Path(folder))}"]
        fixed = ("--isolation", "chroot", "--format", "docker", "--layers=false", "--pull-never", "--quiet")
        buildah("build", *fixed, "--target", target, *options, "--tag", f"localhost/winnow-{service}", str(ROOT))


def sizes(service: str) -> tuple[float, float]:
    """Unpacked, and compressed as it is pulled, in MB."""
    container = buildah("from", "--pull-never", f"localhost/winnow-{service}")
    system = buildah("mount", container)
    unpacked = int(subprocess.check_output(["du", "--summarize", "--bytes", "--one-file-system", system]).split()[0])
    packing = f"tar --create --directory {system} . | gzip -6 | wc --bytes"
    packed = int(subprocess.check_output(packing, shell=True))
    buildah("rm", container)
    return unpacked / MB, packed / MB


def compilers(service: str) -> list[str]:
    """What could build or install something, by its path in the image."""
    container = buildah("from", "--pull-never", f"localhost/winnow-{service}")
    system = Path(buildah("mount", container))
    tools = re.compile(r"(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cargo|rustc|go|git|pip|pip3|uv|curl|wget)(-?[\d.]+)?")
    found = [
        f"/{path.relative_to(system)}"
        for folder in ("usr/bin", "usr/local/bin", "opt/winnow/bin")
        for path in (system / folder).glob("*")
        if tools.fullmatch(path.name)
    ]
    buildah("rm", container)
    return found


def home() -> Path:
    """A small shop with two promoted models, as the tests have it; the images' user owns it."""
    made = FOLDER / "home"
    if not (made / "mlflow.db").is_file():
        sys.path.insert(0, str(ROOT))
        from tests.platform.conftest import platform_home

        shutil.rmtree(made, ignore_errors=True)
        platform_home(made)
    subprocess.run(["chown", "--recursive", "10001:10001", made], check=True)
    return made


def report(service: str) -> list[str]:
    """Print a line about an image; return what is wrong with it."""
    unpacked, packed = sizes(service)
    print(f"{service:<12} {unpacked:6.0f} MB unpacked  {packed:6.0f} MB compressed", flush=True)
    limit = LIMITS_MB.get(service)
    wrong = [f"{service} has {tool}" for tool in compilers(service) if service in SERVICES]
    return [*wrong, *([f"{service} is larger than {limit} MB"] if limit and unpacked > limit else [])]


def main() -> None:
    chosen = sys.argv[1:] or list(SERVICES)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not have(BASE):
        base()
    if not have(BUILDER):
        builder()
    wrong = []
    for service in chosen:
        build(service)
        wrong += report(service)
    if set(chosen) >= set(SERVICES):
        prove(SERVICES, FOLDER, home(), buildah)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
