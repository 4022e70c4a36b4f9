"""Who signs in by single sign-on: finds, links or adds the person, and has the roles follow the groups.

A person is found by the provider's `sub` alone. A user name or e-mail address from the provider finds no person,
unless OIDC_LINKS_BY_EMAIL lets a verified address link one who has no other way to sign in yet, once.
"""

from __future__ import annotations

import hashlib
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q

from administration import group_roles
from administration.roles import following
from keys.audit.actor import Actor, acting

NAME_LENGTH = 150
DEACTIVATED = "Your account is deactivated."
UNKNOWN = (
    "You are known to the provider, but not here. If you have a password, sign in with it and link yourself under Your "
    "account. Otherwise, ask an owner to add you."
)
Claims = dict[str, Any]


class Unknown(Exception):
    """The provider knows someone whom Bursar doesn't know, and may not add. The message is for this person."""


def provider() -> str:
    """The provider's name in the table of links: its issuer, so a `sub` of another one finds no person."""
    return str(settings.CONFIGURATION.oidc_issuer)[:200]


def is_on() -> bool:
    """Whether the deployment has single sign-on."""
    return bool(settings.CONFIGURATION.oidc_issuer)


def is_linked(user: Any) -> bool:
    """Whether a person can sign in by single sign-on."""
    return is_on() and SocialAccount.objects.filter(user_id=user.pk, provider=provider()).exists()


def person_of(claims: Claims, address: str) -> Any:
    """The person who has signed in at the provider, with the roles of the groups.

    Args:
        claims: what the provider says, verified.
        address: of the client, for the audit log.

    Raises:
        Unknown: there is no such person.
    """
    with acting(lambda: Actor("system", "single sign-on", address=address)):
        user = linked(claims["sub"]) or by_email(claims) or added(claims)
        if user is None:
            raise Unknown(UNKNOWN)
        if user.is_active:
            keep_up(user, claims)
            roles = group_roles.read(settings.CONFIGURATION.oidc_roles)
            following.follow(user, groups_of(claims), roles)
    return user


def linked(sub: str) -> Any | None:
    """The person who is linked to this subject of the provider."""
    found = SocialAccount.objects.filter(provider=provider(), uid=sub).select_related("user").first()
    if found is not None:
        found.save(update_fields=["last_login"])
    return found and found.user


def link(user: Any, sub: str) -> None:
    """Let a person sign in as this subject of the provider.

    Raises:
        ValidationError: the subject is another person's, or the person has another one.
    """
    try:
        with transaction.atomic():
            if SocialAccount.objects.filter(user=user, provider=provider()).exists():
                raise ValidationError("You are linked already.")
            SocialAccount.objects.create(user=user, provider=provider(), uid=sub)
    except IntegrityError:
        raise ValidationError("Another person is linked to this account of the provider.") from None


def unlink(user: Any) -> bool:
    """Remove a person's links to providers, and return whether there were any. Those of a person without a password
    stay: they are the only way in, and the person can't have added another one."""
    if not user.has_usable_password():
        return False
    count, _ = SocialAccount.objects.filter(user_id=user.pk).delete()
    return bool(count)


def by_email(claims: Claims) -> Any | None:
    """Link the one active person with the verified e-mail address, if the deployment wants that.

    Only a person who has no password and has never signed in: an admin who may type addresses could type someone
    else's for a person whose password the admin knows. A link of an invitation ends with the first sign-in.
    """
    email = verified_email(claims)
    if not email or not settings.CONFIGURATION.oidc_links_by_email:
        return None
    people = list(get_user_model()._default_manager.filter(email__iexact=email, is_active=True)[:2])
    if len(people) != 1 or people[0].has_usable_password() or people[0].last_login is not None:
        return None
    link(people[0], claims["sub"])
    return people[0]


def added(claims: Claims) -> Any | None:
    """Add a person, if the deployment wants that. The person has no password, and no role but those of the groups.

    Raises:
        Unknown: a deactivated person has this user name or address.
    """
    if not settings.CONFIGURATION.oidc_creates_people:
        return None
    if is_deactivated(claims):
        raise Unknown(DEACTIVATED)
    users = get_user_model()._default_manager
    # Names own virtual keys, so only what the provider has verified becomes one.
    subject = f"{provider()} {claims['sub']}"
    unique = f"sso-{hashlib.sha256(subject.encode()).hexdigest()[:16]}"
    email = verified_email(claims)
    free = email and len(email) <= NAME_LENGTH and not users.filter(username__iexact=email).exists()
    if not free and users.filter(username=unique).exists():  # added earlier, and unlinked since
        return None
    with transaction.atomic():
        user = users.create_user(email if email and free else unique)
        link(user, claims["sub"])
    return user


def is_deactivated(claims: Claims) -> bool:
    """Whether a deactivated person has the user name or address of these claims. What the provider hasn't verified
    counts too: it can only refuse."""
    known_by = {claims.get("email"), claims.get("preferred_username")}
    same = Q()
    for text in known_by:
        if isinstance(text, str) and text and "\0" not in text:
            same |= Q(username__iexact=text) | Q(email__iexact=text)
    return bool(same) and get_user_model()._default_manager.filter(same, is_active=False).exists()


def keep_up(user: Any, claims: Claims) -> None:
    """Take over the name and the verified address of a person who has no password, and so signs in only there."""
    if user.has_usable_password():
        return
    email = verified_email(claims)
    new = {"email": email} if email else {}
    for field, claim in (("first_name", "given_name"), ("last_name", "family_name")):
        if isinstance(claims.get(claim), str):
            new[field] = claims[claim][:NAME_LENGTH]
    changed = [name for name, value in new.items() if getattr(user, name) != value]
    for name in changed:
        setattr(user, name, new[name])
    if changed:
        user.save(update_fields=changed)


def verified_email(claims: Claims) -> str | None:
    """The person's e-mail address, if the provider has verified it."""
    email = claims.get("email")
    said = claims.get("email_verified")
    if not isinstance(email, str) or said is False or str(said).lower() == "false":
        return None
    if not settings.CONFIGURATION.oidc_trusts_emails and said is not True and str(said).lower() != "true":
        return None
    try:
        validate_email(email)
    except ValidationError:
        return None
    return email if len(email) <= 254 else None


def groups_of(claims: Claims) -> list[str]:
    """The person's groups. Without the claim there are none, so roles of groups are taken away."""
    said = claims.get(settings.CONFIGURATION.oidc_groups_claim, [])
    return [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, str)]
