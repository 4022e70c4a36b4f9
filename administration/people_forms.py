"""The forms of people's pages: a person, and the roles that the person has."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from administration.models import Grant, Person
from administration.role_names import Role
from administration.roles import giving
from keys.models import Customer, Team
from keys.pickers import limit


class GrantForm(forms.ModelForm):  # type: ignore[type-arg]
    """A role to give. `giver` is the person who uses the form."""

    giver: Any = None

    class Meta:
        model = Grant
        fields = ("role", "customer", "team")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            check(self.giver, cleaned["role"], cleaned["customer"], cleaned["team"])
        return cleaned


class NewPersonForm(forms.ModelForm):  # type: ignore[type-arg]
    """A person to add, with the first role."""

    giver: Any = None

    role = forms.ChoiceField(choices=Role.choices, initial=Role.MEMBER)
    customer = forms.ModelChoiceField(Customer.objects.all(), required=False, help_text="Only for this customer.")
    team = forms.ModelChoiceField(Team.objects.all(), required=False, help_text="Only for this team.")

    class Meta:
        model = Person
        fields = ("username", "first_name", "last_name", "email")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit(self.fields.values(), self.giver)
        roles = giving.roles_to_give(self.giver)
        self.fields["role"].choices = [(role.value, role.label) for role in roles]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            grant = check(self.giver, cleaned["role"], cleaned["customer"], cleaned["team"])
            grant.clean_fields(exclude=["user"])
            grant.validate_constraints(exclude=["user"])
        return cleaned


def check(giver: Any, role: str, customer: Customer | None, team: Team | None) -> Grant:
    """The grant that a person wants to give.

    Raises:
        ValidationError: the giver lacks this role or scope.
    """
    grant = Grant(role=role, customer=customer, team=team)
    if not giving.may_give(giver, grant):
        raise ValidationError(giving.NOT_YOURS)
    return grant
