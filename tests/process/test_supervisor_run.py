"""`make run` itself, from a copy of the checkout: from nothing to an answer, through a kill, to a clean stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from gateway_project import embedded_postgres, processes
from gateway_project.configuration import BASE_DIR, Configuration

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", ".env", "__pycache__", ".*_cache", ".hypothesis")
SECONDS_TO_INSTALL = 600
SECONDS_TO_START_AGAIN = 30


class Run:
    """A `make run` in a folder, and what it says."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "screen.log"
        names = {name.upper() for name in Configuration.model_fields} | {"ENV_FILE", "DJANGO_SETTINGS_MODULE"}
        self.environment = {name: value for name, value in os.environ.items() if name not in names}

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as screen:
            command = ["make", "run", f"PORT={self.port}", "WEB_PROCESSES=2"]
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=screen, stderr=screen, start_new_session=True
            )

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, process: subprocess.Popen[bytes], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.said():
            assert process.poll() is None, self.said()[-2000:]
            assert time.monotonic() < deadline, self.said()[-2000:]
            time.sleep(0.1)

    def pid(self, name: str) -> int:
        return int((self.folder / "var" / "run" / f"{name}.pid").read_text())

    def supervisor(self) -> int:
        return int((self.folder / "var" / "run" / "supervisor.lock").read_text())

    def left(self) -> dict[str, int]:
        return processes.orphans(self.folder / "var" / "run")


@pytest.fixture
def run():
    folder = Path(tempfile.mkdtemp(prefix="gateway-run-", dir="/tmp"))
    shutil.copytree(BASE_DIR, folder, ignore=LEFT_OUT, dirs_exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run = Run(folder, port)
    yield run
    for pid in [run.supervisor(), *run.left().values()]:
        if processes.is_from(pid, folder / "var" / "run") or Path(f"/proc/{pid}/cwd").resolve() == folder:
            os.kill(pid, signal.SIGKILL)
    instance = folder / "var" / "instance"
    if instance.exists():
        shutil.rmtree(embedded_postgres.SYSTEM_DIR / instance.read_text().strip(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def ask(port: int, key: str) -> httpx.Response:
    body = {"model": "echo-1", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return httpx.post(f"http://127.0.0.1:{port}/v1/messages", json=body, headers=headers, timeout=30)


@pytest.mark.slow
def test_one_command_runs_the_gateway_survives_kills_and_stops_clean(run):
    process = run.start()
    run.wait_for("listens on", process, SECONDS_TO_INSTALL)
    (key,) = re.findall(r"Virtual key +(sk-bf-\w+)", run.said())
    assert ask(run.port, key).status_code == 200

    again = subprocess.run(
        ["make", "run", f"PORT={run.port}"],
        cwd=run.folder,
        env=run.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert again.stderr.startswith("The gateway is already running in this folder")

    for name in ("web-1", "pages-1", "worker", "beat", "postgres"):
        before = run.pid(name)
        os.kill(before, signal.SIGKILL)
        run.wait_for(f"{name} ended (signal 9)", process, 10)
        deadline = time.monotonic() + 20
        while run.pid(name) == before or name not in run.left():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    os.kill(run.supervisor(), signal.SIGKILL)
    process.wait(60)
    process = run.start()
    run.wait_for("listens on", process, SECONDS_TO_START_AGAIN)
    assert "Virtual key" not in run.said()
    assert ask(run.port, key).status_code == 200

    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)
    assert run.left() == {}
    assert run.said().rstrip().splitlines()[-1] == "Stopped."
    for file in (run.folder / "var" / "log").iterdir():
        assert key not in file.read_text()
