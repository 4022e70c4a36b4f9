"""The list of saved reports, and the page of one: its question, its name, and its e-mails."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from administration import rooms
from administration.rooms import Page
from administration.saved_reports.forms import MailForm, NameForm, schedule_of
from keys.errors import Unusable
from usage.reporting import mailing, saved
from usage.reporting.asked import Asked
from usage.saved_reports import ReportDelivery, ReportSchedule, SavedReport

SEE = (saved.SEE,)
REPORT = "usage_report"
# Mails that the page lists, latest first.
LATEST = 10


@require_safe
def listed(request: HttpRequest) -> HttpResponse:
    """The reports that this person finds: their own first."""
    rows = saved.seen_by(request.user).select_related("schedule").order_by("name", "pk")
    both = list(rows)
    context = {
        "title": "Saved reports",
        "own": [report for report in both if report.owner_id == request.user.pk],
        "shared": [report for report in both if report.owner_id != request.user.pk],
        "report_url": reverse(REPORT),
    }
    return framed(request, "admin/saved_reports/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Save the question in the URL under a name."""
    query, person = request.GET.urlencode(), cast(Any, request.user)
    report = SavedReport(owner_id=person.pk, query=query)
    form, problem, asked = NameForm(request.POST or None, instance=report), "", None
    try:
        asked = saved.asked_by(query, request.user)
        if request.method == "POST" and form.is_valid():
            saved.save(request.user, form.save(commit=False))
            messages.success(request, f"“{report.name}” is saved.")
            return HttpResponseRedirect(reverse("admin:saved_report", args=[report.pk]))
    except Unusable as error:
        problem = saved.in_words(error)
    context = {
        "title": "Save this report",
        "form": form,
        "problem": problem,
        "heading": asked.heading() if asked else [],
    }
    return framed(request, "admin/saved_reports/add.html", context, 400 if problem or form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of a report. Its owner renames it, and says when it is sent by e-mail."""
    report, user = report_of(request, pk), request.user
    may_change = saved.may_change(user, report)
    name_form = mail_form = None
    problem = ""
    if may_change:
        mails = request.method == "POST" and "every" in request.POST
        name_form = NameForm(request.POST if request.method == "POST" and not mails else None, instance=report)
        mail_form = MailForm(request.POST if mails else None, user=user, report=report)
        try:
            if mails and mail_form.is_valid():
                return changed(request, report, set_mails(request, report, mail_form.cleaned_data))
            if not mails and name_form.is_valid():
                saved.save(user, name_form.save(commit=False))
                return changed(request, report, f"“{report.name}” is saved.")
        except Unusable as error:
            problem = saved.in_words(error)
            report.refresh_from_db()
    elif request.method == "POST":
        raise PermissionDenied
    asked, cannot_be_asked = question(report, user)
    schedule = schedule_of(report)
    context: dict[str, Any] = {
        "title": report.name,
        "report": report,
        "asked": asked,
        "heading": asked.heading() if asked else [],
        "cannot_be_asked": cannot_be_asked,
        "open_url": f"{reverse(REPORT)}?{report.query}",
        "name_form": name_form,
        "mail_form": mail_form,
        "problem": problem,
        "may_remove": saved.may_remove(user, report),
        "schedule": schedule,
        "subscribed": schedule is not None and schedule.recipients.filter(person=user.pk).exists(),
        "why_not": "" if mailing.may_get(user, report) else mailing.why_not(user, report),
        "has_mail_server": bool(settings.EMAIL_HOST),
        "has_url": bool(settings.CONFIGURATION.public_url),
        "deliveries": deliveries(request, report, may_change),
    }
    bad = problem or (name_form and name_form.errors) or (mail_form and mail_form.errors)
    return framed(request, "admin/saved_reports/report.html", context, 400 if bad else 200)


def report_of(request: HttpRequest, pk: int) -> SavedReport:
    """The report of a URL.

    Raises:
        Http404: there is no such report, or this person doesn't find it.
    """
    found: SavedReport | None = saved.seen_by(request.user).filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such report.")
    return found


def question(report: SavedReport, user: Any) -> tuple[Asked | None, str]:
    """What a report asks, and why it can't be asked any more."""
    try:
        return saved.asked_by(report.query, user), ""
    except Unusable as error:
        return None, saved.in_words(error)


def deliveries(request: HttpRequest, report: SavedReport, of_all: bool) -> list[ReportDelivery]:
    """The latest mails: of everybody for the owner, of themselves for others."""
    rows = report.deliveries.select_related("person").order_by("-due_at", "person__username")
    return list((rows if of_all else rows.filter(person=request.user.pk))[:LATEST])


def set_mails(request: HttpRequest, report: SavedReport, given: dict[str, Any]) -> str:
    """Set when a report is sent; what to say about it.

    Raises:
        Unusable: a person can't get it.
    """
    schedule = schedule_of(report)
    if not given["every"]:
        if schedule is not None:
            schedule.delete()
        return "The report isn’t sent by e-mail."
    schedule = schedule or ReportSchedule(report=report)
    schedule.every, schedule.at, schedule.zone = given["every"], given["at"], given["zone"]
    mailing.set_schedule(request.user, schedule, given["people"])
    return f"The report is sent {schedule}."


def changed(request: HttpRequest, report: SavedReport, said: str) -> HttpResponse:
    """The page of a report again, with what has changed."""
    messages.success(request, said)
    return HttpResponseRedirect(reverse("admin:saved_report", args=[report.pk]))


@require_POST
def subscription(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a report to this person from now on, or no more."""
    report = report_of(request, pk)
    schedule = schedule_of(report)
    if schedule is None:
        return changed(request, report, "The report isn’t sent by e-mail.")
    if "stop" in request.POST:
        mailing.unsubscribe(request.user, schedule)
        return changed(request, report, "You don’t get this report by e-mail any more.")
    try:
        mailing.subscribe(request.user, schedule)
    except Unusable as error:
        messages.error(request, saved.in_words(error))
        return HttpResponseRedirect(reverse("admin:saved_report", args=[report.pk]))
    return changed(request, report, f"You get this report by e-mail {schedule}.")


@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask whether to delete a report; a POST deletes it."""
    report = report_of(request, pk)
    if not saved.may_remove(request.user, report):
        raise PermissionDenied
    if request.method == "POST":
        report.delete()
        messages.success(request, f"“{report.name}” is deleted.")
        return HttpResponseRedirect(reverse("admin:saved_reports"))
    return framed(request, "admin/saved_reports/remove.html", {"title": f"Delete “{report.name}”?", "report": report})


def framed(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """A page in the site's frame."""
    return TemplateResponse(request, template, admin.site.each_context(request) | context, status=status)


rooms.USAGE.add(
    Page(
        "Saved reports",
        "admin:saved_reports",
        SEE,
        route="usage/saved-reports/",
        view=listed,
        also=("admin:saved_report_add", "admin:saved_report", "admin:saved_report_remove"),
    ),
    Page("Save a report", "admin:saved_report_add", SEE, route="usage/saved-reports/add/", view=add, linked=False),
    Page("Report", "admin:saved_report", SEE, route="usage/saved-reports/<int:pk>/", view=one, linked=False),
    Page(
        "Subscription",
        "admin:saved_report_subscription",
        SEE,
        route="usage/saved-reports/<int:pk>/subscription/",
        view=subscription,
        linked=False,
    ),
    Page(
        "Delete a report",
        "admin:saved_report_remove",
        SEE,
        route="usage/saved-reports/<int:pk>/delete/",
        view=remove,
        linked=False,
    ),
)
