"""The API's paths, each also under the prefixes that clients are configured with. The SDKs append /v1/… to their base
URL, even if that ends in a slash or in /v1.
"""

from __future__ import annotations

from django.urls import re_path

from messages_api.endpoints.batches import BatchesView, BatchResultsView, BatchView, CancelBatchView
from messages_api.endpoints.files import FileContentView, FilesView, FileView
from messages_api.endpoints.messages import CountTokensView, MessagesView
from messages_api.endpoints.models import ModelsView, ModelView
from messages_api.endpoints.quota import QuotaView
from messages_api.endpoints.usage import UsageView
from messages_api.endpoints.view import NotFoundView
from messages_api.prefixes import PREFIXES
from messages_api.providers.paths import ID

PREFIX = f"^/*(?:{'|'.join(prefix.removesuffix('/') + '/+' for prefix in PREFIXES)})?(?:v1/+)?"
BATCH = rf"v1/messages/batches/(?P<name>{ID})"

urlpatterns = [
    re_path(PREFIX + r"v1/messages/?$", MessagesView.as_view(), name="messages"),
    re_path(PREFIX + r"v1/messages/count_tokens/?$", CountTokensView.as_view(), name="count_tokens"),
    re_path(PREFIX + r"v1/messages/batches/?$", BatchesView.as_view(), name="batches"),
    re_path(PREFIX + BATCH + r"/?$", BatchView.as_view(), name="batch"),
    re_path(PREFIX + BATCH + r"/cancel/?$", CancelBatchView.as_view(), name="cancel_batch"),
    re_path(PREFIX + BATCH + r"/results/?$", BatchResultsView.as_view(), name="batch_results"),
    re_path(PREFIX + r"v1/models/?$", ModelsView.as_view(), name="models"),
    re_path(PREFIX + r"v1/models/(?P<model>.+?)/?$", ModelView.as_view(), name="model"),
    re_path(PREFIX + r"v1/files/?$", FilesView.as_view(), name="files"),
    re_path(PREFIX + r"v1/files/(?P<file>[^/]+)/?$", FileView.as_view(), name="file"),
    re_path(PREFIX + r"v1/files/(?P<file>[^/]+)/content/?$", FileContentView.as_view(), name="file_content"),
    re_path(PREFIX + r"v1/quota/?$", QuotaView.as_view(), name="quota"),
    re_path(PREFIX + r"v1/usage/?$", UsageView.as_view(), name="usage"),
    re_path(r"^", NotFoundView.as_view(), name="not_found"),
]
