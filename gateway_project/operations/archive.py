"""The file of a backup: a zip whose parts are stored as they are, a manifest with the hash of each part, and a seal.

The seal is an HMAC-SHA256 of the manifest under the newest pepper. Who changes a part or the manifest, and doesn't have
the pepper, can't make the seal again. The pepper isn't in the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from keys.errors import Unusable
from keys.keyring import Pepper

FORMAT = 1
MANIFEST, SEAL, DATABASE = "manifest.json", "seal.json", "database.dump"
DOMAIN = b"bursar backup\n"
CHUNK = 1024 * 1024
LONGEST_MANIFEST = 256 * 1024 * 1024

Noted = Callable[[bytes], object]


def seal_of(pepper: Pepper, manifest: bytes) -> str:
    """The seal in hexadecimal."""
    return hmac.new(pepper.key, DOMAIN + manifest, hashlib.sha256).hexdigest()


class Writer:
    """Writes an archive beside its final name, which it gets once it is complete and on the disk. However the block
    ends otherwise, no file is left; a process that is killed leaves a hidden draft, which the next one replaces.

    Raises:
        Unusable: there is a file of this name already, or its folder can't be written.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise Unusable(f"{path} exists already: a backup never replaces a file")
        self.path, self.draft = path, path.with_name(f".{path.name}.draft")
        self.parts: dict[str, dict[str, Any]] = {}
        self.done = False
        try:
            self.draft.unlink(missing_ok=True)
            self.file = os.fdopen(os.open(self.draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
        except OSError as error:
            raise Unusable(f"{path.parent} can't be written: {error.strerror}") from None
        self.zip = zipfile.ZipFile(self.file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            self.draft.unlink(missing_ok=True)
            # Its own end would write a directory of parts to the file.
            self.zip.fp = None
            with contextlib.suppress(OSError, ValueError):
                self.file.close()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Noted]:
        """Write a part; yields the function that takes its bytes."""
        digest, size = hashlib.sha256(), 0
        with self.zip.open(name, "w", force_zip64=True) as out:

            def write(piece: bytes) -> None:
                nonlocal size
                digest.update(piece)
                size += len(piece)
                out.write(piece)

            yield write
        self.parts[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def finish(self, about: dict[str, Any], pepper: Pepper) -> int:
        """Write manifest and seal, and give the archive its name.

        Returns:
            its length in bytes.
        """
        manifest = json.dumps({"format": FORMAT, **about, "parts": self.parts}, indent=1).encode()
        self.zip.writestr(MANIFEST, manifest)
        self.zip.writestr(SEAL, json.dumps({"pepper": pepper.name, "hmac-sha256": seal_of(pepper, manifest)}))
        self.zip.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        length = self.file.tell()
        self.file.close()
        # Unlike a renaming, a link doesn't replace a file that came meanwhile.
        os.link(self.draft, self.path)
        self.draft.unlink()
        self.done = True
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return length


class Reader:
    """An archive whose manifest is as it was sealed. `check` compares the parts.

    Raises:
        Unusable: it isn't an archive, was changed, or is sealed under a pepper that isn't at hand.
    """

    def __init__(self, path: Path, peppers: Sequence[Pepper]) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
            if self.zip.getinfo(MANIFEST).file_size > LONGEST_MANIFEST:
                raise KeyError(MANIFEST)
            manifest = self.zip.read(MANIFEST)
            seal = json.loads(self.zip.read(SEAL))
            name, value = str(seal["pepper"]), str(seal["hmac-sha256"])
        except FileNotFoundError:
            raise Unusable(f"there is no file {path}") from None
        except OSError as error:
            raise Unusable(f"{path} can't be read: {error.strerror}") from None
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, RuntimeError, NotImplementedError):
            raise Unusable(f"{path} is not a backup, or not the whole of one") from None
        pepper = next((each for each in peppers if each.name == name), None)
        if pepper is None:
            raise Unusable(
                f"{path} is sealed under the pepper {name}, which this deployment doesn't have: name the file of its "
                "secrets with --secrets"
            )
        if not hmac.compare_digest(seal_of(pepper, manifest), value):
            raise Unusable(f"{path} was changed: its manifest is not as it was sealed")
        self.manifest: dict[str, Any] = json.loads(manifest)
        if self.manifest["format"] != FORMAT:
            raise Unusable(f"{path} has the format {self.manifest['format']}: restore it with the version that made it")
        self.parts: dict[str, dict[str, Any]] = self.manifest["parts"]

    def check(self, noted: Noted) -> None:
        """Compare every part with its hash.

        Args:
            noted: gets each piece that was read.

        Raises:
            Unusable: a part is missing, was added or was changed.
        """
        if sorted(self.zip.namelist()) != sorted([*self.parts, MANIFEST, SEAL]):
            raise Unusable(f"{self.path} was changed: its parts are not those of its manifest")
        for name, about in self.parts.items():
            digest = hashlib.sha256()
            try:
                with self.zip.open(name) as part:
                    while piece := part.read(CHUNK):
                        digest.update(piece)
                        noted(piece)
                found = digest.hexdigest()
            except (zipfile.BadZipFile, EOFError, OSError):
                found = ""
            if found != about["sha256"]:
                raise Unusable(f"{self.path} was changed: its part {name} is not as it was sealed")

    def open(self, name: str) -> IO[bytes]:
        """The bytes of a part."""
        return self.zip.open(name)

    def within(self, folder: str) -> dict[str, str]:
        """The parts of a folder: their names there, by their names in the archive.

        Raises:
            Unusable: a name leads out of the folder.
        """
        found = {name: name.removeprefix(folder + "/") for name in self.parts if name.startswith(folder + "/")}
        if any(".." in Path(name).parts or name.startswith("/") for name in found.values()):
            raise Unusable(f"{self.path} has a part whose name leads elsewhere")
        return found
