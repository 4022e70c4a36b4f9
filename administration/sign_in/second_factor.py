"""What a second factor is worth: when a sign-in asks for one, and whether a session has proved one."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import get_authentication_records, record_authentication
from allauth.mfa.models import Authenticator
from allauth.mfa.stages import AuthenticateStage
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.http import HttpRequest

from administration.role_names import Role
from administration.roles.enforcement import grants_of
from administration.sign_in import single_sign_on

SSO = "socialaccount"
# Recovery codes alone are no second factor: they replace one that is lost.
KINDS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
ALL = "all"


class Stage(AuthenticateStage):  # type: ignore[misc]
    """The step of a sign-in that asks for a second factor, of everyone who has one."""

    def _should_handle(self, request: HttpRequest) -> bool:
        records = get_authentication_records(request, self.login.user)
        if settings.CONFIGURATION.oidc_is_second_factor and records and records[-1]["method"] == SSO:
            return False
        return bool(super()._should_handle(request))


def has(user: Any) -> bool:
    """Whether a person has set up a second factor."""
    return bool(is_mfa_enabled(user, KINDS))


def is_proved(request: HttpRequest) -> bool:
    """Whether this session has proved a second factor, or one that stands for it."""
    proofs = {"mfa"} | ({SSO} if settings.CONFIGURATION.oidc_is_second_factor else set())
    return any(record["method"] in proofs for record in get_authentication_records(request, request.user))


def is_proved_by_sso(request: HttpRequest) -> bool:
    """Whether this session began with single sign-on, where that stands for a second factor."""
    records = get_authentication_records(request, request.user)
    return settings.CONFIGURATION.oidc_is_second_factor and any(record["method"] == SSO for record in records)


def is_required_of(user: Any) -> bool:
    """Whether the deployment demands a second factor of this person (`SECOND_FACTOR_ROLES`)."""
    demanded = set(settings.CONFIGURATION.second_factor_roles)
    if not demanded or not user.is_authenticated:
        return False
    roles = {grant.role for grant in grants_of(user)} | ({Role.OWNER.value} if user.is_superuser else set())
    return ALL in demanded or bool(demanded & roles)


def is_missing(user: Any) -> bool:
    """Whether the deployment demands a second factor of a person who has none, and no single sign-on in its place."""
    if not is_required_of(user) or has(user):
        return False
    return not (settings.CONFIGURATION.oidc_is_second_factor and single_sign_on.is_linked(user))


def note_proof(request: HttpRequest, kind: str) -> None:
    """Note in the session that the person has just used a second factor of this kind, since it was set up here."""
    user = request.user
    assert user.is_authenticated
    record_authentication(request, user, "mfa", type=str(kind))
