"""Builds the sdist and the wheel of Bursar: `python deploy/release.py FOLDER`.

The same commit makes the same bytes, whichever machine, user and day it is: times are the commit's (or those of
SOURCE_DATE_EPOCH), names are sorted, owners and modes are fixed. The wheel is built from the sdist, so that the sdist
is complete.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.utils import parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
# What the packages are built from, by the names at the top. `tests` and what measures the gateway stay in the checkout.
PARTS = (
    *("gateway_project", "administration", "billing", "messages_api", "reconciliation", "usage", "keys", "templates"),
    *("manage.py", "pyproject.toml", "requirements.in", "requirements.txt", "README.md", "CHANGELOG.md", "LICENSE"),
)


class Unfit(Exception):
    """A package that must not be released. The message says why."""


def epoch() -> int:
    """The time of all files, in seconds: SOURCE_DATE_EPOCH, else that of the last commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(git("log", "-1", "--format=%ct"))


def git(*arguments: str) -> str:
    """What git answers about the checkout."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603, S607


def stage(folder: Path) -> set[str]:
    """Copy the files that git knows, as they are in the checkout, with modes that don't depend on the umask. Returns
    their names."""
    names = {name for name in git("ls-files", "-z", "--", *PARTS).split("\0") if name}
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    (folder / "MANIFEST.in").write_text("include requirements.in requirements.txt CHANGELOG.md\n")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return names


def pack(folder: Path, archive: Path, seconds: int) -> None:
    """Pack the sdist's folder again: setuptools writes today's times and the user's name into it."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = seconds
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted([folder, *folder.rglob("*")]):
            tar.add(path, arcname=path.relative_to(folder.parent), recursive=False, filter=plain)


def build(kind: str, source: Path, out: Path, seconds: int) -> Path:
    """Build one kind of package, `sdist` or `wheel`, with the pinned setuptools of this Python.

    Raises:
        Unfit: it can't be built.
    """
    # No module of the checkout may be found instead of a package's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source],
        cwd=out,
        env=environment | {"SOURCE_DATE_EPOCH": str(seconds)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unfit(f"The {kind} can't be built:\n{done.stdout}{done.stderr}")
    (made,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def release(target: Path) -> list[Path]:
    """Build both packages into a folder, and check them.

    Raises:
        Unfit: a package can't be built, lacks a file, or has metadata that a package index refuses.
    """
    seconds = epoch()
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        source, made, again = (Path(scratch) / name for name in ("source", "made", "again"))
        for each in (source, made, again):
            each.mkdir()
        names = stage(source)
        first = build("sdist", source, made, seconds)
        with tarfile.open(first) as tar:
            tar.extractall(again)  # noqa: S202
        (folder,) = again.iterdir()
        sdist = made / "packed" / first.name
        sdist.parent.mkdir()
        pack(folder, sdist, seconds)
        wheel = build("wheel", folder, made, seconds)
        check(sdist, wheel, names)
        target.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(each, target / each.name)) for each in (sdist, wheel)]


def check(sdist: Path, wheel: Path, wanted: set[str]) -> None:
    """Whether the packages have every file that is wanted, and metadata that a package index takes.

    Raises:
        Unfit: they don't.
    """
    with ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        (name,) = (each for each in inside if each.endswith(".dist-info/METADATA"))
        about = archive.read(name)
    with tarfile.open(sdist) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
        noted = tar.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        if noted is None or noted.read() != about:
            raise Unfit("The sdist and the wheel have different metadata.")
    code = {each for each in wanted if "/" in each or each == "manage.py"}
    if missing := sorted(code - inside | wanted - packed):
        raise Unfit(f"{len(missing)} files are missing, {missing[0]} among them.")
    if more := sorted({each for each in inside if ".dist-info/" not in each} - code):
        raise Unfit(f"{len(more)} files are not of the source, {more[0]} among them.")
    metadata = Metadata.from_email(about, validate=True)
    if (metadata.name, metadata.version) != parse_wheel_filename(wheel.name)[:2]:
        raise Unfit(f"{wheel.name} is not the name of {metadata.name} {metadata.version}.")
    if (metadata.name, metadata.version) != parse_sdist_filename(sdist.name):
        raise Unfit(f"{sdist.name} is not the name of {metadata.name} {metadata.version}.")
    # A package index shows the description, and refuses an upload whose description has no type.
    if not metadata.description or metadata.description_content_type != "text/markdown":
        raise Unfit("The description is missing, or isn't Markdown.")
    if Parser().parsestr(about.decode()).defects:
        raise Unfit("The metadata has a line that readers of mail don't understand.")


if __name__ == "__main__":
    try:
        for path in release(Path(sys.argv[1])):
            print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}")
    except Unfit as reason:
        sys.exit(str(reason))
