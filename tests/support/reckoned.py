"""Ceilings of requests as the gateway estimates them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from messages_api.process import allowances
from messages_api.request import estimates, pdf, plain, schema
from messages_api.request.estimates import estimate
from tests.support.gateway import ask
from usage import pricing
from usage.pricing import UnpricedPolicy

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BOOK = pricing.build([], UnpricedPolicy(refuse=False, input=Decimal(30), output=Decimal(150)))
ALLOWANCES = allowances.read("")
OPUS, HAIKU, FABLE = "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-1"


def contents(said):
    return estimates.contents(plain.of(json.dumps(said).encode()), pdf.Steps())


def reckoned(body):
    request = schema.parse(body)
    return request, estimate(request.contents, request.model, request.added, request.extras)


def ceiling(body, at=NOW):
    request, counted = reckoned(body)
    models = [request.model, *request.extras.models]
    if request.extras.default_fallbacks:
        models += pricing.current_models()
    prices = [BOOK.price("anthropic", model, at) for model in models]
    return counted.ceiling_cost(request.max_tokens, *prices, allowances=ALLOWANCES, extras=request.extras)


def held(**members):
    return ceiling(json.dumps(ask() | members).encode())
