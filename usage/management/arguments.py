"""Arguments that commands about budgets and limits share."""

from __future__ import annotations

from django.core.management.base import CommandParser


def add_owner(parser: CommandParser) -> None:
    parser.add_argument("owner", metavar="OWNER", help="customer:NAME, team:CUSTOMER/TEAM or key:NAME")


def add_scope(parser: CommandParser) -> None:
    parser.add_argument(
        "--models",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="only for these models; default: all",
    )
    parser.add_argument("--provider-key", metavar="NAME", help="only for the virtual key's calls to this provider key")
