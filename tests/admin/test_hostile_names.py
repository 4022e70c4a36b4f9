"""Names that a key's holder or an administrator chose are text on every page that shows them, and never markup."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.support.issued import make_key

pytestmark = pytest.mark.django_db

MARKUP = "</script><img src=x onerror=alert(1)>"


def test_markup_in_the_names_of_keys_and_models_is_text_on_pages(admin_client):
    key, _ = make_key()
    key.name = MARKUP
    key.allowed_models = [MARKUP]
    key.save()
    key.customer.name = MARKUP
    key.customer.save()
    urls = [reverse("admin:keys_virtualkey_changelist"), reverse("admin:keys_customer_changelist"), "/admin/"]
    urls += [reverse(f"admin:keys_virtualkey_{what}", args=[key.pk]) for what in ("change", "rotate", "revoke")]
    shown = 0
    for url in urls:
        page = admin_client.get(url, follow=True).content.decode()
        assert "<img src=x" not in page, url
        shown += "&lt;img src=x onerror" in page
    assert shown >= 3
