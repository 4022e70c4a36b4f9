"""Times in the viewer's zone, numbers in their locale, amounts as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings as configured
from django.template import Context, Template
from django.urls import reverse

from keys import viewer
from keys.models import Customer
from tests.support.gateway import wait_until
from usage.amounts import price, usd

MOMENT = datetime(2026, 11, 29, 22, 38, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("50", "$50.00"),
        ("0.0031", "$0.0031"),
        ("0.5", "$0.50"),
        ("0", "$0.00"),
        ("1234567.891", "$1,234,567.89"),
        ("-0.02", "-$0.02"),
        ("0.00001234", "$0.000012"),
        ("0.123456", "$0.1235"),
        ("0.392", "$0.3920"),
        ("0.999999", "$1.00"),
    ],
)
def test_amounts_are_written_as_people_write_them(amount, written):
    assert usd(Decimal(amount)) == written
    assert Template("{% load amounts %}{{ amount|usd }}").render(Context({"amount": Decimal(amount)})) == written


@pytest.mark.parametrize(("amount", "written"), [("3", "$3.00"), ("0.3", "$0.30"), ("1.125", "$1.125"), ("0", "$0.00")])
def test_prices_are_exact(amount, written):
    assert price(Decimal(amount).quantize(Decimal("0.000001"))) == written


def test_numbers_and_times_are_those_of_the_viewer():
    assert viewer.moment(MOMENT) == "29 Nov 2026 22:38 UTC"
    with viewer.viewing(ZoneInfo("Europe/Berlin"), "de"):
        assert viewer.moment(MOMENT) == "29 Nov 2026 23:38 CET"
        assert viewer.number(1234567) == "1.234.567"
        assert usd(Decimal("1234.5")) == "$1.234,50"
    assert viewer.number(1234567) == "1,234,567"


@pytest.mark.django_db
def test_a_page_shows_times_in_the_zone_that_its_viewer_chose(admin_client):
    customer = Customer.objects.create(name="Acme")
    Customer.objects.filter(pk=customer.pk).update(created_at=MOMENT)
    page = reverse("admin:keys_customer_changelist")
    assert "29 Nov 2026 22:38 UTC" in admin_client.get(page).content.decode()
    answer = admin_client.post(reverse("admin:time_zone"), {"zone": "Asia/Tokyo"})
    assert answer.status_code == 302
    shown = admin_client.get(page).content.decode()
    assert "30 Nov 2026 07:38 JST" in shown
    assert "Times in Asia/Tokyo" in shown


@pytest.mark.django_db
def test_a_browser_without_a_choice_is_asked_for_its_zone_once(client, admin_client):
    url = reverse("admin:time_zone")
    for page in (client.get(reverse("admin:login")), admin_client.get(reverse("admin:index"))):
        assert f'data-zone-url="{url}"' in page.content.decode()
    assert client.post(url, {"zone": "UTC", "script": "1"}).status_code == 204
    assert "data-zone-url" not in client.get(reverse("admin:login")).content.decode()
    admin_client.post(url, {"zone": "UTC"})
    assert "data-zone-url" not in admin_client.get(reverse("admin:index")).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "x" * 10_000, "Europe/Berlin\0", "EST"])
def test_a_zone_that_does_not_exist_is_refused_and_in_a_cookie_ignored(client, zone):
    answer = client.post(reverse("admin:time_zone"), {"zone": zone})
    assert answer.status_code == 400
    assert "set-cookie" not in {name.lower() for name in answer.headers}
    assert configured.TIME_ZONE_COOKIE_NAME not in client.cookies
    client.cookies[configured.TIME_ZONE_COOKIE_NAME] = zone.replace("\0", "")[:1000]
    assert client.get(reverse("admin:login")).status_code == 200


def test_a_browser_sends_its_own_zone_with_the_first_page(chromium, served, start_web, collected, settings):
    web = start_web(var_dir=collected, secret_key=settings.SECRET_KEY)
    chromium.say("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")

    def cookies():
        return {each["name"]: each["value"] for each in chromium.run(chromium.page.context.cookies())}

    chromium.open(f"{web.url}/admin/time-zone/")
    # The list begins with the browser's zone, by either of its names.
    first, chosen = (chromium.evaluate(f"document.querySelector('#zone').{of}") for of in ("options[0].value", "value"))
    assert {first, chosen} <= {"Asia/Calcutta", "Asia/Kolkata"}
    wait_until(lambda: "time_zone" in cookies())
    assert cookies()["time_zone"].strip('"') == chosen
    assert chromium.violations() == []
