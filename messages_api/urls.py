"""The API's paths, each also under the prefixes that clients are configured with; the SDKs append /v1/… to theirs."""

from __future__ import annotations

from django.urls import re_path

from messages_api.models_view import ModelsView, ModelView
from messages_api.views import CountTokensView, MessagesView, NotFoundView

PREFIX = r"^(?:anthropic/|pydanticai/anthropic/|pydanticai/)?"

urlpatterns = [
    re_path(PREFIX + r"v1/messages/?$", MessagesView.as_view(), name="messages"),
    re_path(PREFIX + r"v1/messages/count_tokens/?$", CountTokensView.as_view(), name="count_tokens"),
    re_path(PREFIX + r"v1/models/?$", ModelsView.as_view(), name="models"),
    re_path(PREFIX + r"v1/models/(?P<model>.+?)/?$", ModelView.as_view(), name="model"),
    re_path(r"^", NotFoundView.as_view(), name="not_found"),
]
