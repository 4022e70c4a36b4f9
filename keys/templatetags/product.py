"""The product's name and version in templates: `{% load product %}{% product %}`."""

from __future__ import annotations

from django import template

from keys.product import NAME_AND_VERSION

register = template.Library()


@register.simple_tag
def product() -> str:
    return NAME_AND_VERSION
