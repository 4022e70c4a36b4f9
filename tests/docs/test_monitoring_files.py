"""The dashboard and the alert rules name metrics that a gateway answers with, and each rule has its paragraph."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from usage import figures, metrics

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "bursar.json").read_text())
(GROUP,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "bursar.rules.yaml").read_text())["groups"]
RULES = {rule["alert"]: rule for rule in GROUP["rules"]}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
NAME = re.compile(r"\bgateway_[a-z_]+")
TOKEN = "a-token-of-some-length"


@pytest.fixture
def answered(served, start_web):
    """The metrics that a gateway answers with: of each histogram, the names of its series."""
    from tests.support.gateway import CLIENT

    web = start_web(1, metrics_token=TOKEN)
    answer = CLIENT.get(web.url + "/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    kinds = dict(re.findall(r"# TYPE ([a-z_]+) ([a-z]+)", answer.text))
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {name + end for name, kind in kinds.items() for end in ends[kind]}


def expressions():
    yield from ((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"])
    yield from ((name, rule["expr"]) for name, rule in RULES.items())


def test_each_metric_that_is_asked_for_is_answered(answered):
    named = {name for _, expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 20
    assert named <= answered


def test_each_metric_is_on_the_dashboard_or_in_a_rule_or_on_the_page():
    page = (ROOT / "docs" / "metrics.md").read_text()
    ours = [name for name, *_ in (*metrics.METRICS, *metrics.DAY_METRICS)] + list(metrics.PROCESS_METRICS)
    assert [name for name in ours if f"`{name}`" not in page] == []
    snapshot = figures.Figures().snapshot("web")
    in_processes = {*snapshot["gauges"], *snapshot["counters"], *snapshot["histograms"]}
    assert in_processes <= set(metrics.PROCESS_METRICS)


def test_each_rule_has_its_paragraph_and_each_paragraph_its_rule():
    headings = re.findall(r"^## (\w+)$", RUNBOOK, re.M)
    assert headings == list(RULES)
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert len(RUNBOOK.partition(f"## {name}\n")[2].partition("\n## ")[0]) > 80


def test_no_panel_lies_upon_another():
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
