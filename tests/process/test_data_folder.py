"""Other users of the machine reach nothing in the data folder: not the file broker, spool, secrets or logs."""

from __future__ import annotations

import os
import stat

import pytest

from gateway_project.supervisor import make_folders


def modes(folder):
    """Of it and each folder in it, by name."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if path.is_dir()}


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("made_before", [False, True])
def test_the_data_folder_with_broker_spool_and_secrets_is_for_its_owner_only(tmp_path, made_before):
    var_dir = tmp_path / "var"
    if made_before:
        var_dir.mkdir(mode=0o777)
    make_folders(var_dir)
    found = modes(var_dir)
    assert {"var", "broker", "spool", "secrets", "run", "log"} <= set(found)
    assert set(found.values()) == {0o700}
