"""Static files of pages: collected at the start, compressed, kept by browsers for long; and the icon."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import override_settings

from gateway_project import first_run, static_files
from gateway_project.embedded_postgres import CannotStart
from tests.support.gateway import CLIENT, ROOT

LINKS = re.compile(r'(?:src|href)="(/static/[^"]+)"')


@pytest.fixture
def root(collected, tmp_path):
    """The collected files, as a copy for a test to harm."""
    copy = shutil.copytree(collected / "static", tmp_path / "static")
    with override_settings(STATIC_ROOT=copy):
        yield copy


@pytest.fixture
def pages(served, start_web, collected):
    return start_web(var_dir=collected)


@pytest.mark.parametrize("path", ["/", "/docs/", "/admin/login/"])
def test_the_files_of_a_page_are_compressed_and_cached_for_long(pages, path):
    links = LINKS.findall(CLIENT.get(pages.url + path).text)
    assert len(links) >= 2
    for link in links:
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", link), f"{link} has no hash in its name"
        answer = CLIENT.get(pages.url + link, headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        (seconds,) = re.findall(r"max-age=(\d+)", answer.headers["cache-control"])
        assert int(seconds) > 30_000_000
        assert "access-control-allow-origin" not in answer.headers
        if len(answer.content) > 2_000:
            assert answer.headers["content-encoding"] == "gzip"
            assert int(answer.headers["content-length"]) < len(answer.content) / 2
            assert answer.headers["vary"].lower() == "accept-encoding"
        plain = CLIENT.get(pages.url + link, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content


@pytest.mark.parametrize("path", ["/", "/docs/", "/admin/login/"])
def test_every_page_has_an_icon(pages, path):
    (link,) = re.findall(r'<link rel="icon" href="([^"]+)"', CLIENT.get(pages.url + path).text)
    answer = CLIENT.get(pages.url + link)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")


def test_browsers_find_an_icon_where_they_look_for_one(web):
    for method in ("GET", "HEAD"):
        answer = CLIENT.request(method, web.url + "/favicon.ico")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/x-icon"
        assert "max-age=86400" in answer.headers["cache-control"]
    assert CLIENT.get(web.url + "/favicon.ico").content.startswith(b"\0\0\1\0")


def test_pages_work_where_nothing_was_collected(web):
    assert not (settings.STATIC_ROOT / "staticfiles.json").exists()
    links = LINKS.findall(CLIENT.get(web.url + "/admin/login/").text)
    assert links
    assert all(finders.find(link.removeprefix("/static/")) for link in links)


def test_a_start_without_a_change_collects_nothing(root):
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    static_files.collect()
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


def taken_away(root):
    next(root.glob("keys/admin.*.css")).unlink()


def cut_short(root):
    next(root.glob("keys/admin.*.css.gz")).write_bytes(b"")


def half_done(root):
    (root / static_files.STAMP).unlink()


def of_another_version(root):
    (root / static_files.STAMP).write_text("another")


def without_manifest(root):
    (root / "staticfiles.json").unlink()


@pytest.mark.parametrize("harm", [taken_away, cut_short, half_done, of_another_version, without_manifest])
def test_harm_and_upgrades_are_noticed(root, harm):
    assert static_files.are_whole(root, static_files.fingerprint())
    harm(root)
    assert not static_files.are_whole(root, static_files.fingerprint())


def test_a_start_after_an_upgrade_collects_them_again(root):
    (root / "of-an-older-version.css").write_text("")
    of_another_version(root)
    taken_away(root)
    static_files.collect()
    (file,) = root.glob("keys/admin.*.css.gz")
    assert gzip.decompress(file.read_bytes()) == (ROOT / "keys/static/keys/admin.css").read_bytes()
    assert static_files.are_whole(root, static_files.fingerprint())
    assert not (root / "of-an-older-version.css").exists()


def test_a_start_fails_loudly_where_they_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with override_settings(STATIC_ROOT=tmp_path / "file" / "static"), pytest.raises(CannotStart, match="static files"):
        first_run.collect_static_files()


def test_a_start_fails_loudly_where_a_file_names_one_that_is_not_there(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "page.css").write_text("body { background: url(missing.png) }")
    with (
        override_settings(STATIC_ROOT=tmp_path / "static", STATICFILES_DIRS=[app]),
        pytest.raises(CannotStart, match=r"missing\.png"),
    ):
        first_run.collect_static_files()
    assert not (tmp_path / "static" / static_files.STAMP).exists()


def test_every_file_that_a_template_names_is_there():
    templates = [*(ROOT / "templates").rglob("*.html")]
    named = {name for file in templates for name in re.findall(r'{% static "([^"]+)" %}', file.read_text())}
    assert len(named) > 5
    assert [name for name in named if not finders.find(name)] == []
    assert all(Path(str(finders.find(name))).stat().st_size for name in named)
