"""The first step of `make`: check this machine, create `.venv`, and install the requirements into it.

It runs under the system's python3, before anything is installed, so it uses the standard library only and no other
module of the project. It installs again only after a requirements file has changed.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
VENV = BASE_DIR / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed"


def check_folder() -> None:
    """Refuse a read-only checkout: `.venv` and the data folder are created in it."""
    if not os.access(BASE_DIR, os.W_OK):
        sys.exit(f"The folder {BASE_DIR} is not writable: use a checkout of your own.")


def check_venv() -> None:
    """Refuse a Python without venv: Debian packages it separately."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        sys.exit("Python can't create a virtual environment: install python3-venv (apt install python3-venv).")


def check_port() -> None:
    """Refuse a port that is in use before the long installation begins.

    The check is skipped if this machine runs no web process, or if pid files of an earlier run exist: that run may have
    the port, and the supervisor deals with it.
    """
    roles = configured("ROLES", "api,admin").split(",")
    if not {"api", "admin"} & {role.strip() for role in roles}:
        return
    host, port = configured("HOST", "127.0.0.1"), configured("PORT", "8000")
    if not port.isdigit():
        sys.exit("PORT: expected a number from 1 to 65535")
    if any((BASE_DIR / "var" / "run").glob("*.pid")):
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                sys.exit(f"Port {port} on {host} is in use; choose another one: make run PORT={int(port) + 1}")
            sys.exit(f"Can't listen on {host}, port {port} (HOST, PORT): {error.strerror}.")
        except OverflowError:
            sys.exit("PORT: expected a number from 1 to 65535")


def configured(name: str, default: str) -> str:
    """A setting from the environment or `.env`, as the configuration will read it. It must be on one line and not refer
    to other variables."""
    file = Path(os.environ.get("ENV_FILE") or BASE_DIR / ".env")
    text = file.read_text(errors="replace") if file.exists() else ""
    value = r"""(?:'([^'\n]*)'|"([^"\n]*)"|([^\n]*?))"""
    line = rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*=[ \t]*{value}[ \t]*(?:(?<=\s)#[^\n]*)?$"
    given = ["".join(found) for found in re.findall(line, text, re.MULTILINE | re.IGNORECASE)]
    return os.environ.get(name) or (given[-1] if given else "") or default


def install(files: list[Path]) -> None:
    """Bring `.venv` in line with the requirements files, showing the progress."""
    wanted = fingerprint(files)
    done = STAMP.read_text().split() if STAMP.exists() else []
    if wanted in done and works():
        return
    if not works():
        check_venv()
        print("Creating the virtual environment in .venv", flush=True)
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    print("Installing the requirements in " + " and ".join(file.name for file in files), flush=True)
    options = ["--require-hashes", "--disable-pip-version-check", "--no-input", "--root-user-action=ignore"]
    run([str(PYTHON), "-m", "pip", "install", *options, *(part for file in files for part in ("-r", str(file)))])
    # The development requirements include the others, so `make run` needs no installation after `make test`.
    STAMP.write_text("\n".join([wanted, fingerprint(files[:1])]) + "\n")


def works() -> bool:
    """Whether the virtual environment works: its creation was not interrupted, and its Python still exists."""
    try:
        return subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def fingerprint(files: list[Path]) -> str:
    """A digest of the files' contents and of the Python version."""
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def run(command: list[str]) -> None:
    """Run a command with visible output; exit if it fails."""
    code = subprocess.run(command, cwd=BASE_DIR, check=False).returncode
    if code:
        sys.exit(f"Failed: {' '.join(command[:4])} … (exit code {code}). The output above says why.")


def main() -> None:
    """`run` installs the gateway's requirements; `develop` also installs those of lint and tests."""
    purpose = sys.argv[1]
    check_folder()
    if purpose == "run":
        check_port()
    files = [BASE_DIR / "requirements.txt"]
    if purpose == "develop":
        files.append(BASE_DIR / "requirements-dev.txt")
    install(files)


if __name__ == "__main__":
    main()
