"""The sdist and the wheel: the same bytes each time, and a gateway that runs from where they are installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import pytest
from django.conf import settings

from gateway_project import database
from keys.product import NAME_AND_VERSION
from tests.support.databases import new_database
from tests.support.gateway import wait_until
from tests.support.image import free_port

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.long


def released(folder: Path, umask: int) -> dict[str, bytes]:
    """The packages by name."""
    command = [sys.executable, "deploy/release.py", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, umask=umask)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both packages."""
    folder = tmp_path_factory.mktemp("packages")
    released(folder, 0o022)
    return folder


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an empty virtual environment that the wheel was installed into; its requirements are ours."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (wheel,) = packages.glob("*.whl")
    python = str(venv / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    (own,) = venv.glob("lib/python3*/site-packages")
    (own / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


def variables(**given: str) -> dict[str, str]:
    """An environment without the settings and modules of the tests."""
    return {"PATH": os.defpath, "HOME": "/nowhere", **given}


@pytest.fixture
def deployment(tmp_path: Path, django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """An environment with a data folder and an empty database."""
    with django_db_blocker.unblock(), new_database("installed") as name:
        url = database.url_of(settings.DATABASES["default"] | {"NAME": name})
        yield variables(VAR_DIR=str(tmp_path / "var"), DATABASE_URL=url)


def test_two_releases_of_a_commit_have_the_same_bytes(packages, tmp_path):
    again = released(tmp_path / "again", 0o077)
    assert again == {path.name: path.read_bytes() for path in packages.iterdir()}
    assert len(again) == 2


def test_a_release_has_pages_styles_and_translations_and_nothing_that_only_measures(packages):
    (wheel,) = packages.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"templates/admin/index.html", "keys/static/keys/favicon.ico"} <= names
    assert {"usage/locale/de/LC_MESSAGES/django.mo", "messages_api/locale/ja/LC_MESSAGES/django.mo"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops.isdisjoint({"tests", "bench", "attacks", "reliability", "deploy", "docs"})


@pytest.mark.parametrize(
    ("wanted", "says"), [("{'keys/more.sql'}", "keys/more.sql among them"), ("set()", "files are not of the source")]
)
def test_a_package_with_other_files_than_the_source_is_no_release(packages, wanted, says):
    program = "import sys; sys.path.insert(0, 'deploy'); import release; release.check"
    program += f"(*map(release.Path, sys.argv[1:]), {wanted})"
    (wheel,), (sdist,) = packages.glob("*.whl"), packages.glob("*.tar.gz")
    command = [sys.executable, "-c", program, str(sdist), str(wheel)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "release.Unfit" in done.stderr
    assert says in done.stderr


def test_an_installed_gateway_says_that_it_needs_a_folder(installed, tmp_path):
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    version = subprocess.run([installed / "bursar", "version"], env=variables(), **run)
    assert version.stdout == f"{NAME_AND_VERSION}\n"
    for program in ("bursar", "bursar-run"):
        done = subprocess.run([installed / program, "check"], env=variables(), **run)
        assert done.returncode != 0
        assert "VAR_DIR: expected the folder for data" in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_installed_gateway_checks_itself_and_serves_its_pages_with_their_files(installed, deployment, tmp_path):
    checked = subprocess.run(
        [installed / "bursar", "check"], cwd=tmp_path, env=deployment, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    url, said = f"http://127.0.0.1:{(port := free_port())}", tmp_path / "said"
    given = deployment | {"PORT": str(port), "WEB_PROCESSES": "1", "ROLES": "api,admin", "DRAIN_NOTICE": "0"}
    with said.open("wb") as screen:
        running = subprocess.Popen(
            [installed / "bursar-run"], cwd=tmp_path, env=given, stdout=screen, stderr=screen, start_new_session=True
        )
    try:
        wait_until(lambda: "Ctrl-C" in said.read_text() or running.poll() is not None, seconds=120)
        assert running.poll() is None, said.read_text()
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            page = client.get("/admin/login/")
            assert page.status_code == 200
            styles = re.findall(r'"(/static/[^"]+\.css)"', page.text)
            # Collected, with a hash in its name, from Django and from the wheel itself.
            assert any("/static/keys/" in path for path in styles)
            for path in styles:
                style = client.get(path)
                assert (style.status_code, style.headers["content-type"].partition(";")[0]) == (200, "text/css")
                assert "immutable" in style.headers["cache-control"]
    finally:
        running.terminate()
        assert running.wait(120) == 0
