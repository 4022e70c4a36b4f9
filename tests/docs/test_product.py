"""The product's name and version: defined in one place, and shown to people."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command, get_commands
from django.urls import reverse

from keys.product import NAME, VERSION
from messages_api.reference.document import document

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("gateway_project", "administration", "keys", "messages_api", "reconciliation", "usage", "templates")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_stands_in_one_place():
    files = [
        path
        for folder in CODE
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".html", ".js", ".css", ".toml"}
    ]
    files += [ROOT / "manage.py", ROOT / "pyproject.toml"]
    assert len(files) > 100
    assert [str(path.relative_to(ROOT)) for path in files if VERSION in path.read_text()] == ["keys/product.py"]


def test_the_metadata_takes_the_version_from_there():
    assert PROJECT["project"]["name"] == NAME.lower()
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "keys.product.VERSION"}


def test_the_newest_heading_of_the_changelog_is_the_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert next(heading for heading in headings if heading != "Unreleased") == VERSION


def test_the_licence_is_the_one_that_the_metadata_names():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    (name,) = PROJECT["project"]["license-files"]
    text = (ROOT / name).read_text()
    assert "Apache License\n" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_manage_py_prints_the_version_without_database_configuration_or_packages(argument, tmp_path):
    # -S leaves out the installed packages, Django among them.
    command = [sys.executable, "-S", str(ROOT / "manage.py"), argument]
    environment = {"DATABASE_URL": "nonsense", "PORT": "nonsense", "VAR_DIR": str(tmp_path / "var")}
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout == f"{NAME} {VERSION}\n"
    assert found.stderr == ""
    assert not (tmp_path / "var").exists()


def test_version_is_among_the_commands():
    assert get_commands()["version"] == "keys"
    printed = StringIO()
    call_command("version", stdout=printed)
    assert printed.getvalue() == f"{NAME} {VERSION}\n"


@pytest.mark.django_db
def test_the_admin_shows_the_version_in_its_footer(admin_client):
    page = admin_client.get(reverse("admin:index")).content.decode()
    (footer,) = re.findall(r'<footer id="footer">(.*?)</footer>', page, re.S)
    assert f"{NAME} {VERSION}" in footer
    assert f">{NAME}</a>" in page
    assert f"| {NAME}</title>" in page


@pytest.mark.django_db
@pytest.mark.parametrize("signed_in", [False, True])
def test_only_administrators_see_the_version(client, signed_in):
    if signed_in:
        client.force_login(User.objects.create_user("charlie"))
    page = client.get(reverse("admin:login")).content.decode()
    assert f"{NAME} administration" in page
    assert VERSION not in page


def test_the_pages_for_everyone_name_the_product(client):
    home = client.get(reverse("home")).content.decode()
    assert f"<title>{NAME}</title>" in home
    assert f"<h1>{NAME}</h1>" in home
    docs = client.get(reverse("docs")).content.decode()
    assert f"<title>{NAME}: API reference</title>" in docs


def test_the_api_reference_has_the_name_and_the_version():
    assert document()["info"]["title"] == NAME
    assert document()["info"]["version"] == VERSION
