"""The image: the Dockerfile's own steps, run in roots that `mmdebstrap` begins, without an engine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway_project.unprivileged import CODE
from tests.support import image
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import ask, message

ROOT = Path(__file__).resolve().parent.parent.parent
# In bytes, unpacked. docs/deploy.md states it.
MOST = 560_000_000
# The provider of the test is on this machine.
LOCAL = {"ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
PYTHON = "/opt/bursar/.venv/bin/python"

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[image.Stage]:
    """What the Dockerfile makes."""
    for program, package in (("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing: apt-get install {package}")
    roots = tmp_path_factory.mktemp("image")
    # The image's user has to enter it.
    for folder in (roots, *roots.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    yield image.build(ROOT / "Dockerfile", ROOT, roots)
    shutil.rmtree(roots)


@dataclass
class Deployment:
    """All roles, from the image."""

    url: str
    pid: int
    said: Path
    stage: image.Stage

    def run(self, *command: str, given: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """A command in the image, beside the roles."""
        return image.beside(self.pid, self.stage, list(command), given, **settings)


@pytest.fixture(scope="module")
def deployment(built: image.Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All roles with a read-only root, and the embedded database on a volume."""
    folder = tmp_path_factory.mktemp("deployment")
    data, said, port = folder / "data", folder / "said", image.free_port()
    data.mkdir(mode=0o700)
    os.chown(data, 10001, 10001)
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "WEB_PROCESSES": "1", "DRAIN_NOTICE": "0", **LOCAL}
    with said.open("wb") as log:
        running = subprocess.Popen(
            image.command_in(built, data, built.entry, **settings), stdout=log, stderr=log, start_new_session=True
        )
    try:
        # Bounded: the first start makes a database.
        for _ in range(600):
            assert running.poll() is None, said.read_text()
            if "shown once" in said.read_text():
                break
            time.sleep(0.5)
        yield Deployment(f"http://127.0.0.1:{port}", image.started(running), said, built)
    finally:
        os.kill(image.started(running), signal.SIGTERM)
        try:
            assert running.wait(180) == 0
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            raise


def listed(*command: str | Path) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_is_small_and_has_no_file_that_its_user_may_write(built):
    size = int(listed("du", "--summarize", "--bytes", built.root).split()[0])
    print(f"The image has {size / 1e6:.0f} MB.")
    assert size < MOST
    assert built.user == "10001:10001"
    volume = built.root / "var/lib/bursar"
    assert listed("find", built.root, "-uid", "10001", "-o", "-gid", "10001").split() == [str(volume)]
    # A file that everyone may write would be the user's too.
    assert listed("find", built.root / "opt", "-perm", "-002", "-not", "-type", "l") == ""


def test_it_has_all_code_compiled_and_nothing_else_of_the_checkout(built):
    home = built.root / "opt/bursar"
    tracked = set(listed("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *CODE).split())
    found = {str(path.relative_to(home)) for part in CODE for path in [home / part, *(home / part).rglob("*")]}
    assert tracked <= found
    assert "gateway_project/operations/doctor/__init__.py" in tracked
    assert {path.name for path in home.iterdir()} == {*CODE, ".venv", "LICENSE", "requirements.txt", "__pycache__"}
    assert not (home / ".venv/bin/pip").exists()
    for folder in (home / "keys", next(home.glob(".venv/lib/python3*/site-packages/django"))):
        assert list(folder.glob("__pycache__/*.pyc"))


def test_all_roles_are_ready_with_a_read_only_root_and_without_rights(deployment):
    with httpx.Client(base_url=deployment.url, timeout=60, trust_env=False) as client:
        for role in ("api", "admin", "worker", "beat"):
            for _ in range(300):
                ready = client.get("/health/ready", params={"role": role})
                if ready.status_code == 200:
                    break
                time.sleep(0.5)
            assert ready.status_code == 200, (role, ready.text)
        page = client.get("/admin/login/")
        assert page.status_code == 200
        for path in re.findall(r'"(/static/[^"]+\.css)"', page.text):
            assert client.get(path).status_code == 200
    status = Path(f"/proc/{deployment.pid}/status").read_text()
    assert re.findall(r"^[UG]id:\s+(.+)$", status, re.M) == ["10001\t10001\t10001\t10001"] * 2
    assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\s+(\w+)$", status, re.M) == ["0" * 16] * 3
    for path in ("/opt/bursar/new", "/etc/new", "/var/lib/new"):
        assert "Read-only file system" in deployment.run("touch", path).stderr
    assert deployment.run("touch", "/var/lib/bursar/new", "/tmp/new").returncode == 0


def test_it_answers_a_call_by_a_provider(deployment):
    with Upstream() as upstream, httpx.Client(base_url=deployment.url, timeout=60, trust_env=False) as client:
        upstream.answer = whole(200, said := message())
        manage = (PYTHON, "manage.py")
        about = ("--provider", "anthropic", "--base-url", upstream.url, "--no-check", "--secret-stdin")
        added = deployment.run(*manage, "add_provider_key", "fake", *about, given="sk-ant-made-up", **LOCAL)
        assert added.returncode == 0, added.stderr
        key = deployment.run(*manage, "issue_virtual_key", "alice", "--customer", "Acme", "--provider-key", "fake")
        assert key.returncode == 0, key.stderr
        answer = client.post("/v1/messages", json=ask(), headers={"x-api-key": key.stdout.strip()})
        assert (answer.status_code, answer.content) == (200, said)
        assert len(upstream.seen) == 1
        assert upstream.last.values("x-api-key") == ["sk-ant-made-up"]
