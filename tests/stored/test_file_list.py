"""The list of files, and files that are gone from here or from the provider."""

from __future__ import annotations

import pytest

from messages_api.models import File
from tests.support.file_calls import SDK_0, call, ids, uploaded
from tests.support.file_calls import amy as amy
from tests.support.file_calls import provider as provider
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
    CLIENT,
    PROVIDER_SECRET,
    Caller,
    Web,
    credentials,
    refused,
)


def test_a_deleted_file_is_not_found_and_the_provider_is_not_asked(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    call(web, amy.key, "DELETE", f"/{file_id}")
    calls = len(provider.calls)
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        refused(call(web, amy.key, method, f"/{file_id}{path}"), 404, "not_found_error")
    assert len(provider.calls) == calls


def test_a_file_that_the_provider_no_longer_knows_can_be_deleted_here(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    provider.files.clear()
    answer = call(web, amy.key, "DELETE", f"/{file_id}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"File not found: {file_id}")
    assert ids(call(web, amy.key, "GET")) == []


def test_the_list_is_newest_first_a_page_at_a_time_in_both_dialects(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    newest_first = [uploaded(web, amy.key) for _ in range(5)][::-1]
    calls = len(provider.calls)
    whole_list = call(web, amy.key, "GET").json()
    assert [file["id"] for file in whole_list.pop("data")] == newest_first
    assert whole_list == {
        "has_more": False, "first_id": newest_first[0], "last_id": newest_first[4], "next_page": None
    }  # fmt: skip
    first = call(web, amy.key, "GET", "?limit=2")
    assert (ids(first), first.json()["has_more"]) == (newest_first[:2], True)
    second = call(web, amy.key, "GET", f"?limit=2&after_id={first.json()['last_id']}&beta=true")
    assert (ids(second), second.json()["has_more"]) == (newest_first[2:4], True)
    assert ids(call(web, amy.key, "GET", f"?limit=2&page={first.json()['next_page']}")) == newest_first[2:4]
    last = call(web, amy.key, "GET", f"?limit=2&page={second.json()['next_page']}")
    assert (ids(last), last.json()["next_page"], last.json()["has_more"]) == (newest_first[4:], None, False)
    before = call(web, amy.key, "GET", f"?limit=2&before_id={newest_first[3]}")
    assert (ids(before), before.json()["has_more"]) == (newest_first[1:3], True)
    before = call(web, amy.key, "GET", f"?limit=2&before_id={newest_first[1]}")
    assert (ids(before), before.json()["has_more"]) == (newest_first[:1], False)
    assert first.json()["next_page"].startswith("page_")
    assert len(provider.calls) == calls


def test_some_files_can_be_asked_for_by_id(web: Web, amy: Caller) -> None:
    files = [uploaded(web, amy.key) for _ in range(3)]
    call(web, amy.key, "DELETE", f"/{files[1]}")
    answer = call(web, amy.key, "GET", "?" + "&".join(f"ids[]={name}" for name in (*files, *files, "file_none")))
    assert ids(answer) == [files[2], files[0]]
    assert (answer.json()["next_page"], answer.json()["has_more"]) == (None, False)


def test_a_file_deleted_meanwhile_keeps_its_place_in_the_list(web: Web, amy: Caller) -> None:
    oldest, middle, newest = [uploaded(web, amy.key) for _ in range(3)]
    cursor = call(web, amy.key, "GET", "?limit=2").json()["next_page"]
    call(web, amy.key, "DELETE", f"/{middle}")
    assert ids(call(web, amy.key, "GET", f"?page={cursor}")) == [oldest]
    assert ids(call(web, amy.key, "GET", f"?before_id={middle}")) == [newest]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after_id=file_none", "after_id"),
        ("before_id=%00", "before_id"),
        ("after_id=a&before_id=b", "after_id, before_id"),
        ("page=x", "page"),
        ("page=page_", "page"),
        ("page=page_%F0%9F%92%A9", "page"),
        ("page=page_gICA", "page"),
        ("page=page_ZmlsZV9ub25l", "page"),
        ("page=page_a&after_id=b", "after_id, page"),
        ("ids=a&limit=3", "ids, limit"),
        ("ids[]=a&page=page_a", "ids, page"),
        ("&".join(f"ids[]=f{number}" for number in range(101)), "ids"),
        ("scope_id=sess_1", "scope_id"),
    ],
)
def test_a_list_that_cannot_be_is_refused_by_name(web: Web, amy: Caller, query: str, named: str) -> None:
    said = refused(call(web, amy.key, "GET", f"?{query}"), 400, "invalid_request_error")
    assert said.startswith(named + ":")


@pytest.mark.parametrize("path", ["files", "models"])
def test_a_query_without_measure_is_refused(web: Web, amy: Caller, path: str) -> None:
    query = "&".join(f"ids[]=f{number}" for number in range(2000))
    answer = CLIENT.get(f"{web.url}/v1/{path}?{query}", headers=credentials(amy.key))
    assert "query" in refused(answer, 400, "invalid_request_error")


def made(caller: Caller, file_id: str) -> None:
    """The row of a file that a model made."""
    File.objects.create(id=file_id, virtual_key=caller.virtual_key, team=caller.team, provider_key=caller.provider_key)


def test_what_a_model_made_is_described_when_it_is_listed(web: Web, amy: Caller, provider: FilesProvider) -> None:
    names = [f"file_made_{number}" for number in range(9)]
    for name in names:
        provider.add(PROVIDER_SECRET, name)
        made(amy, name)
    answer = CLIENT.get(web.url + "/v1/files", headers=credentials(amy.key) | SDK_0)
    assert ids(answer) == names[::-1]
    assert answer.json()["data"][0] == provider.files["file_made_8"]["described"]
    assert provider.headers[-1]["anthropic-beta"] == SDK_0["anthropic-beta"]
    assert len(provider.calls) == 9
    assert len(ids(call(web, amy.key, "GET"))) == 9
    assert len(provider.calls) == 9


def test_what_a_model_made_and_the_provider_has_forgotten_leaves_no_hole(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    files = [uploaded(web, amy.key) for _ in range(3)]
    for number in range(5):
        made(amy, f"file_gone_{number}")
    answer = call(web, amy.key, "GET", "?limit=2")
    assert ids(answer) == [files[2], files[1]]
    assert answer.json()["has_more"]
    assert File.objects.filter(deleted_at=None).count() == 3


def test_a_list_with_a_file_that_the_provider_cannot_describe_now_is_a_503(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    made(amy, "file_made")
    amy.provider_key.base_url = "http://127.0.0.1:1"
    amy.provider_key.save()
    refused(call(web, amy.key, "GET"), 503, "api_error")
