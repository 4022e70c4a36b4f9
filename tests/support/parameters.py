"""The parameters that pages read from their URLs, as the pages themselves show them."""

from __future__ import annotations

import re
from typing import Any

# Of every list, of forms that add a row, and of pages that are made by hand.
OF_LISTS = ("p", "q", "o", "e", "all", "_popup", "_to_field", "_changelist_filters")
OF_FORMS = ("like", "team", "customer", "virtual_key", "budget", "provider_key", "_popup", "_to_field", "then")
OF_PAGES = ("p", "q", "next", "before", "format", "group", "model", "range", "text", "session", "days", "key", "term")
INPUT = re.compile(r"<(?:input|select|textarea)[^>]*? name=\"([^\"]+)\"")


def of(response: Any) -> list[str]:
    """The names of the parameters of a page: of a list's filters, or else of its forms and what pages like it read."""
    context = response.context
    if context and "cl" in context:
        return [name for spec in context["cl"].filter_specs for name in spec.expected_parameters()]
    return list(dict.fromkeys([*inputs(response), *OF_FORMS, *OF_PAGES]))


def inputs(response: Any) -> list[str]:
    """The names of the fields of a page's forms, without those of the frame around it."""
    page = response.content.decode()
    names = INPUT.findall(page[page.find('id="content-start"') :])
    return [name for name in dict.fromkeys(names) if name != "csrfmiddlewaretoken" and not name.endswith("_FORMS")]
