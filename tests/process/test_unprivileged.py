"""If root starts the gateway in any folder, its processes run as an ordinary user and keep their data."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.apps import apps

from gateway_project import embedded_postgres, unprivileged
from gateway_project.configuration import BASE_DIR, Configuration
from gateway_project.processes import User, orphans, spawn
from keys import secret_files
from tests.support.gateway import ROOT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files to another user")
NOBODY = User("nobody", 65534, 65534)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of what deployments share, which everybody can enter."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-shared-", dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setattr(unprivileged, "SYSTEM_DIR", folder)
    monkeypatch.setattr(embedded_postgres, "SYSTEM_DIR", folder)
    yield folder
    shutil.rmtree(folder)


@as_root
def test_what_was_kept_is_handed_over_once_and_stays_where_commands_look_for_it(tmp_path: Path, shared: Path) -> None:
    source, target = tmp_path / "secrets", shared / "instance" / "secrets"
    target.parent.mkdir()
    secret_files.write(source / "peppers", ["old"])
    for _ in range(2):
        unprivileged.hand_over(source, target, NOBODY)
        assert (source / "peppers").read_text() == "old\n"
        assert (target / "peppers").stat().st_uid == NOBODY.uid
        assert (target / "peppers").stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [source]
    # What root's commands write is the user's too.
    secret_files.write(source / "peppers", ["new", "old"])
    assert (target / "peppers").stat().st_uid == NOBODY.uid
    # A backup that was put in its place is what counts.
    source.unlink()
    secret_files.write(source / "peppers", ["restored"])
    unprivileged.hand_over(source, target, NOBODY)
    assert (target / "peppers").read_text() == "restored\n"
    assert [path.name for path in target.parent.glob("secrets-until-*")]


@as_root
def test_a_hand_over_that_was_killed_is_finished(tmp_path: Path, shared: Path) -> None:
    source, target = tmp_path / "spool", shared / "spool"
    (tmp_path / ".spool.moved").mkdir()
    target.mkdir()
    (target / "rows").write_text("kept")
    unprivileged.hand_over(source, target, NOBODY)
    assert (source / "rows").read_text() == "kept"
    assert not (tmp_path / ".spool.moved").exists()


@as_root
def test_giving_a_folder_does_not_follow_links(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("root's")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(theirs)
    unprivileged.give(folder, NOBODY)
    assert (theirs.stat().st_uid, (folder / "link").lstat().st_uid) == (0, NOBODY.uid)


def test_settings_of_a_file_go_into_the_environment_which_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("PING_SECONDS=7\nWEB_PROCESSES=\nLOG_LEVEL=DEBUG\nAWS_REGION=eu-central-1\n")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    settings: Any = SimpleNamespace(model_config={"env_file": file})
    assert unprivileged.given(settings) == {"PING_SECONDS": "7"}


def test_a_copy_is_made_once_for_each_content_and_can_be_read_by_everybody(tmp_path: Path, shared: Path) -> None:
    code = tmp_path / "gateway_project"
    code.mkdir()
    (code / "module.py").write_text("x = 1\n")
    tmp_path.chmod(0o700)
    (code / "module.py").chmod(0o600)
    assert not unprivileged.readable_by_all([code])
    copy = unprivileged.copy({"gateway_project": code}, lambda _: None)
    assert unprivileged.readable_by_all([copy])
    assert unprivileged.copy({"gateway_project": code}, lambda _: None) == copy
    assert (code / "module.py").stat().st_mode & 0o777 == 0o600
    (code / "module.py").write_text("x = 22\n")
    assert unprivileged.copy({"gateway_project": code}, lambda _: None) != copy
    assert [path.name for path in shared.iterdir() if path.name.startswith(".gateway")] == []


def test_a_copy_that_no_deployment_runs_from_is_removed_when_the_next_is_made(tmp_path: Path, shared: Path) -> None:
    code = tmp_path / "gateway_project"
    code.mkdir()

    def copy(text: str) -> Path:
        (code / "module.py").write_text(text)
        return unprivileged.copy({"gateway_project": code}, lambda _: None)

    def release() -> None:
        while unprivileged.kept:
            os.close(unprivileged.kept.pop())

    (shared / "gateway-notes").write_text("somebody else's")
    first = copy("x = 1\n")
    second = copy("x = 22\n")
    assert first.exists(), "its supervisor is still there"
    release()
    with spawn(["sleep", "60"], cwd=first) as child:
        third = copy("x = 333\n")
        assert first.exists(), "a process still runs there"
        assert not second.exists()
        child.kill()
    release()
    fourth = copy("x = 4444\n")
    assert sorted(shared.glob("gateway-*")) == sorted([fourth, shared / "gateway-notes"])
    assert not third.exists()
    release()


def test_a_child_gets_no_rights_by_what_it_starts(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        child = spawn([sys.executable, "-c", "print(open('/proc/self/status').read())"], output=output.fileno())
        child.wait(60)
    assert "NoNewPrivs:\t1" in said.read_text()


@pytest.mark.slow
@as_root
def test_no_process_of_the_gateway_runs_as_root_from_a_folder_that_only_root_can_enter() -> None:
    folder = Path(tempfile.mkdtemp(prefix="gateway-root-", dir="/tmp"))
    for part in unprivileged.CODE:
        source = BASE_DIR / part
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / part)
    secret_files.write(folder / "var" / "secrets" / "peppers", ["p" * 64])
    (folder / ".env").write_text("LOG_LEVEL=ERROR\n")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    names = {name.upper() for name in Configuration.model_fields} | {"ENV_FILE", "DJANGO_SETTINGS_MODULE"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    log = folder / "screen"
    with log.open("wb") as screen:
        run = subprocess.Popen(
            [sys.executable, "-m", "gateway_project.supervisor"],
            cwd=folder,
            env=environment | {"PORT": str(port), "WEB_PROCESSES": "1", "DRAIN_NOTICE": "0"},
            stdout=screen,
            stderr=screen,
        )
    try:
        deadline = time.monotonic() + 300
        while "listens on" not in log.read_text():
            assert run.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        pids = orphans(folder / "var" / "run")
        assert set(pids) == {"web-1", "pages-1", "worker", "beat", "postgres"}
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids.values()}.isdisjoint({0})
        assert httpx.get(f"http://127.0.0.1:{port}/admin/login/", trust_env=False, timeout=60).status_code == 200
        assert (folder / "var" / "secrets" / "peppers").read_text().split() == ["p" * 64]
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        run.terminate()
        run.wait(120)
        instance = (folder / "var" / "instance").read_text().strip()
        # Only its own copy: others may belong to gateways that run meanwhile.
        copied = re.search(r"to (\S*/gateway-[0-9a-f]{16}),", log.read_text())
        if copied is not None:
            shutil.rmtree(copied[1])
        shutil.rmtree(embedded_postgres.SYSTEM_DIR / instance)
        shutil.rmtree(folder)


def test_a_copy_has_every_app() -> None:
    ours = {app.name.partition(".")[0] for app in apps.get_app_configs() if (ROOT / app.name).is_dir()}
    assert {"keys", "usage", "messages_api"} < ours
    assert ours <= set(unprivileged.CODE)


def test_the_image_has_what_processes_run_and_its_context_nothing_else() -> None:
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    copied = {name for each in copied for name in each.split()}
    assert copied - {"requirements.txt", "LICENSE"} == set(unprivileged.CODE)
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == copied
