"""The admin's pages of what lives at providers."""

from __future__ import annotations

import pytest

from messages_api.models import Batch, File
from tests.support.ledger_rows import make_cast
from usage import request_ids

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(admin_client):
    return admin_client


def test_a_batch_is_found_by_the_providers_id_and_by_the_request_id_that_made_it(admin):
    cast = make_cast()
    batch = Batch.objects.create(
        id=request_ids.new_id(),
        virtual_key=cast.alice,
        provider_key=cast.provider_key,
        provider_batch_id="msgbatch_1",
        state="running",
        requests=3,
        ceiling=1,
        described="{}",
    )
    for term in ("msgbatch_1", request_ids.request_id(batch.id)):
        page = admin.get("/admin/messages_api/batch/", {"q": term})
        assert page.context["cl"].result_count == 1
    assert admin.get("/admin/messages_api/batch/", {"q": "msgbatch_2"}).context["cl"].result_count == 0
    assert admin.get(f"/admin/messages_api/batch/{batch.id}/change/").status_code == 200


def test_a_file_is_found_by_its_id_and_what_was_said_of_it_is_not_shown(admin):
    cast = make_cast()
    File.objects.create(id="file_1", virtual_key=cast.alice, team=cast.alice.team, described='{"filename": "secret"}')
    assert admin.get("/admin/messages_api/file/", {"q": "file_1"}).context["cl"].result_count == 1
    assert admin.get("/admin/messages_api/file/", {"q": "file_2"}).context["cl"].result_count == 0
    page = admin.get("/admin/messages_api/file/file_5F1/change/")
    assert page.status_code == 200
    assert b"secret" not in page.content
