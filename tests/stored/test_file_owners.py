"""A file belongs to its team or its key, and no other caller sees it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from keys import issuing
from keys.models import Customer, Team
from messages_api.models import File
from tests.support.file_calls import amy as amy
from tests.support.file_calls import call, ids, issue_at, raw_upload, uploaded
from tests.support.file_calls import provider as provider
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
    PROVIDER_SECRET,
    Caller,
    Web,
    refused,
    talk,
)


def test_the_row_of_a_file_says_whose_and_where_it_is(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.accounts[PROVIDER_SECRET] = ("org_acme", "wrkspc_research")
    file = File.objects.get(id=uploaded(web, amy.key))
    assert (file.virtual_key, file.team, file.provider_key) == (amy.virtual_key, amy.team, amy.provider_key)
    assert (file.organization_id, file.workspace_id) == ("org_acme", "wrkspc_research")
    assert json.loads(file.described) == provider.files[file.id]["described"]


def test_what_the_provider_says_of_a_file_is_kept(web: Web, amy: Caller, provider: FilesProvider) -> None:
    file_id = uploaded(web, amy.key)
    provider.files[file_id]["described"]["expires_at"] = "2027-01-01T00:00:00Z"
    call(web, amy.key, "GET", f"/{file_id}")
    assert call(web, amy.key, "GET").json()["data"][0]["expires_at"] == "2027-01-01T00:00:00Z"


def test_the_team_shares_its_files(web: Web, amy: Caller, provider: FilesProvider) -> None:
    bob = issue_at(provider, "bob")
    file_id = uploaded(web, amy.key, b"for the team")
    assert ids(call(web, bob.key, "GET")) == [file_id]
    assert call(web, bob.key, "GET", f"/{file_id}/content").content == b"for the team"
    assert call(web, bob.key, "DELETE", f"/{file_id}").status_code == 200
    assert ids(call(web, amy.key, "GET")) == []


@pytest.mark.parametrize("team", [None, "Sales"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/content"), ("DELETE", "")])
def test_another_teams_file_looks_like_a_missing_one(
    web: Web, amy: Caller, provider: FilesProvider, method: str, path: str, team: str | None
) -> None:
    other = Customer.objects.create(name="Other")
    terms = {"customer": other, "team": team and Team.objects.create(customer=other, name=team)}
    charlie = issue_at(provider, "charlie", **terms)
    file_id = uploaded(web, amy.key)
    calls = len(provider.calls)
    theirs = call(web, charlie.key, method, f"/{file_id}{path}")
    nobodys = call(web, charlie.key, method, f"/file_9999{path}")
    assert refused(theirs, 404, "not_found_error") == f"File not found: {file_id}"
    assert refused(nobodys, 404, "not_found_error") == "File not found: file_9999"
    assert set(theirs.headers) == set(nobodys.headers)
    assert ids(call(web, charlie.key, "GET")) == []
    assert ids(call(web, charlie.key, "GET", f"?ids[]={file_id}")) == []
    refused(call(web, charlie.key, "GET", f"?after_id={file_id}"), 400, "invalid_request_error")
    assert len(provider.calls) == calls


def test_a_key_without_a_team_owns_its_files_alone(web: Web, provider: FilesProvider, served: None) -> None:
    first, second = issue_at(provider, "first", team=None), issue_at(provider, "second", team=None)
    file_id = uploaded(web, first.key)
    assert ids(call(web, first.key, "GET")) == [file_id]
    assert ids(call(web, second.key, "GET")) == []
    refused(call(web, second.key, "GET", f"/{file_id}"), 404, "not_found_error")


def test_a_key_that_moves_to_another_team_leaves_its_files_behind(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    bob = issue_at(provider, "bob")
    amy.virtual_key.team = Team.objects.create(customer=amy.virtual_key.customer, name="Sales")
    amy.virtual_key.save()
    refused(call(web, amy.key, "GET", f"/{file_id}"), 404, "not_found_error")
    assert ids(call(web, amy.key, "GET")) == []
    assert ids(call(web, bob.key, "GET")) == [file_id]


def test_a_key_that_joins_a_team_keeps_what_it_had_to_itself(web: Web, amy: Caller, provider: FilesProvider) -> None:
    loner = issue_at(provider, "loner", team=None)
    own = uploaded(web, loner.key)
    loner.virtual_key.team = amy.team
    loner.virtual_key.save()
    shared = uploaded(web, loner.key)
    assert ids(call(web, loner.key, "GET")) == [shared, own]
    assert ids(call(web, amy.key, "GET")) == [shared]
    assert call(web, loner.key, "GET", f"/{own}").status_code == 200
    refused(call(web, amy.key, "GET", f"/{own}"), 404, "not_found_error")


def test_a_rotated_key_keeps_its_files(web: Web, amy: Caller) -> None:
    file_id = uploaded(web, amy.key)
    rotated = issuing.rotate(amy.virtual_key, timedelta(0))
    assert call(web, rotated, "GET", f"/{file_id}").status_code == 200
    refused(call(web, amy.key, "GET", f"/{file_id}"), 401, "authentication_error")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/file_9"), ("DELETE", "/file_9"), ("POST", "")])
def test_a_revoked_key_is_refused_before_anything_else(
    web: Web, amy: Caller, provider: FilesProvider, method: str, path: str
) -> None:
    call(web, amy.key, "GET")
    issuing.revoke(amy.virtual_key)
    files = {"file": b"a"} if method == "POST" else None
    refused(call(web, amy.key, method, path, files=files), 401, "authentication_error")
    assert provider.calls == []


def test_a_revoked_key_uploads_not_one_byte(web: Web, amy: Caller, provider: FilesProvider) -> None:
    issuing.revoke(amy.virtual_key)
    status, _, _ = talk(web, raw_upload(amy.key, 50_000_000))
    assert status == 401
    assert provider.calls == []
