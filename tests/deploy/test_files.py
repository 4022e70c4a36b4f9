"""nginx and systemd themselves read the files that are meant for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.image


def test_nginx_accepts_its_configuration(tmp_path):
    # Debian's nginx, unpacked and not installed: an installed one would start.
    subprocess.run(["apt-get", "download", "--quiet", "nginx"], cwd=tmp_path, check=True, capture_output=True)
    (package,) = tmp_path.glob("nginx_*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "root"], check=True)
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    # Names of other containers, which only compose's network knows.
    for name in ("web-1", "web-2", "admin"):
        assert f"server {name}:8000" in text
        text = text.replace(f"server {name}:8000", "server 127.0.0.1:8000")
    for before, after in (("/tmp/", f"{tmp_path}/"), ("error_log stderr", f"error_log {tmp_path}/errors")):
        text = text.replace(before, after)
    (tmp_path / "nginx.conf").write_text(text)
    nginx = tmp_path / "root" / "usr" / "sbin" / "nginx"
    done = subprocess.run(
        [nginx, "-t", "-c", tmp_path / "nginx.conf", "-p", tmp_path, "-e", tmp_path / "errors"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    assert "warn" not in done.stderr


@pytest.mark.parametrize("name", ["bursar.service", "bursar@.service"])
def test_systemd_accepts_its_units(tmp_path, name):
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: apt-get install systemd")
    text = (ROOT / "deploy" / "systemd" / name).read_text()
    # It checks that the programs of a unit exist.
    assert "ExecStart=/opt/bursar/.venv/bin/python" in text
    unit = tmp_path / name.replace("@", "@api")
    unit.write_text(text.replace("/opt/bursar/.venv/bin/python", "/usr/bin/python3"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
