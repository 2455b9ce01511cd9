"""The dashboard for Grafana asks for what there is."""

import json
import re

import pytest

from pgdbpool.metrics.figures import METRICS
from tests.documentation import ROOT

DASHBOARD = ROOT / "examples" / "grafana" / "pgdbpool.json"
# What Prometheus adds: which service, and which of its processes.
SCRAPED = ("job", "instance")


def expressions() -> list[str]:
    """Return all that the dashboard asks of Prometheus."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [
        v["definition"] for v in dashboard["templating"]["list"] if "query" in v["type"]
    ]
    for panel in dashboard["panels"]:
        asked += [target["expr"] for target in panel["targets"]]
    return asked


def samples() -> dict[str, set[str]]:
    """Return the names of all series with their labels."""
    found: dict[str, set[str]] = {}
    for metric in METRICS:
        name, labels = f"pgdbpool_{metric.name}", {*metric.labels, *SCRAPED}
        if metric.kind == "histogram":
            found |= {f"{name}_sum": labels, f"{name}_count": labels}
            found[f"{name}_bucket"] = labels | {"le"}
        else:
            found[name + ("_total" if metric.kind == "counter" else "")] = labels
    return found


@pytest.mark.parametrize("expression", expressions())
def test_what_the_dashboard_asks_for_is_there(expression: str) -> None:
    """Each series, with the labels it is selected and grouped by."""
    known = samples()
    named = re.findall(r"pgdbpool_\w+", expression)
    assert named
    assert set(named) <= known.keys()
    labels = set(re.findall(r"(\w+)(?:=~|=|!=)\"", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels |= set(group.split(", "))
    for name in named:
        assert labels <= known[name], name


def test_the_dashboard_shows_every_metric() -> None:
    """At least once, and each panel can be told from the others."""
    text = " ".join(expressions())
    missing = [
        metric.name for metric in METRICS if f"pgdbpool_{metric.name}" not in text
    ]
    assert missing == []
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)


def test_services_are_told_from_each_other() -> None:
    """Two may have pools of one name: each is chosen, and none added to another."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            for selector in re.findall(r"pgdbpool_\w+{([^}]*)}", target["expr"]):
                chosen = {one.split("=~")[0] for one in selector.split(", ")}
                assert {*SCRAPED, "pool"} <= chosen, panel["title"]
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                assert {"job", "pool"} <= set(group.split(", ")), panel["title"]


def test_who_waits_now_is_seen_beside_who_has_waited() -> None:
    """The histogram is silent as long as nobody is served."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    (panel,) = [one for one in panels if one["title"] == "Wait for a connection"]
    *_, last = panel["targets"]
    assert "pgdbpool_waiting{" in last["expr"]
    (override,) = panel["fieldConfig"]["overrides"]
    assert override["matcher"] == {"id": "byFrameRefID", "options": last["refId"]}
    assert {"id": "unit", "value": "short"} in override["properties"]


def test_what_a_panel_calls_its_lines_by_is_in_them() -> None:
    """A legend names all labels that the expression leaves, and no other."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            groups = re.findall(r"by \(([^)]*)\)", target["expr"])
            left = set(groups[0].split(", ")) - {"le"}
            assert legend == left, panel["title"]
