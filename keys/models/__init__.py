"""Models of callers (customers, teams, virtual keys, credentials) and of what they call (provider keys, aliases).

Django finds the app's models here, and landed migrations name `check_time_zone` by this path.
"""

from __future__ import annotations

from keys.audit.models import AuditEvent, AuditName, AuditSeal
from keys.demo_data import DemoData
from keys.models.aliases import ModelAlias
from keys.models.answer_bounds import MOST_TOKENS
from keys.models.credentials import Credential, CredentialKind, GatewayToken
from keys.models.customers import Customer, Language, Team, check_time_zone
from keys.models.gateway import Gateway
from keys.models.provider_key_states import (
    FORGOTTEN_AFTER,
    CheckState,
    Cooldown,
    CooldownReason,
    ModelList,
    Performance,
    ProviderKeyCheck,
)
from keys.models.provider_keys import ProviderKey
from keys.models.sign_ins import SIGN_INS_REMEMBERED, SignInCount
from keys.models.virtual_keys import VirtualKey, VirtualKeyRoute

__all__ = [
    "FORGOTTEN_AFTER",
    "MOST_TOKENS",
    "SIGN_INS_REMEMBERED",
    "AuditEvent",
    "AuditName",
    "AuditSeal",
    "CheckState",
    "Cooldown",
    "CooldownReason",
    "Credential",
    "CredentialKind",
    "Customer",
    "DemoData",
    "Gateway",
    "GatewayToken",
    "Language",
    "ModelAlias",
    "ModelList",
    "Performance",
    "ProviderKey",
    "ProviderKeyCheck",
    "SignInCount",
    "Team",
    "VirtualKey",
    "VirtualKeyRoute",
    "check_time_zone",
]
