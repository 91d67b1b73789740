"""The few kinds of panels that the dashboards are made of, and their order on the page.

A query is PromQL and how its series are called. What Grafana allows is its own SDK's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDE, HALF, THIRD, SIXTH = 24, 12, 8, 4
TALL, LOW = 8, 4
COLOURS = ("green", "orange", "red")

Query = tuple[str, str]
"""PromQL, and a series' name as Grafana makes it of labels."""


def graph(title: str, unit: str, about: str, *queries: Query, span: int = HALF, exemplars: bool = False) -> Any:
    """Lines over time."""
    panel = framed(timeseries.Panel(), title, unit, about, span, TALL)
    panel.legend(
        VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    panel.fill_opacity(8).line_width(1).show_points(VisibilityMode.NEVER).min(0)
    for letter, (expression, name) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(asked(letter, expression, name).range().exemplar(exemplars))
    return panel


def number(title: str, unit: str, about: str, expression: str, *, warn: float, bad: float, span: int = SIXTH) -> Any:
    """One number now, in the colour of how bad it is: `bad` below `warn` means that less is worse."""
    panel = framed(stat.Panel(), title, unit, about, span, LOW)
    panel.thresholds(steps(warn, bad)).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel.with_target(asked("A", expression, "").instant())


def bars(title: str, unit: str, about: str, query: Query, *, warn: float, bad: float, span: int = HALF) -> Any:
    """One bar a series, now."""
    panel = framed(bargauge.Panel(), title, unit, about, span, TALL)
    panel.thresholds(steps(warn, bad)).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel.with_target(asked("A", *query).instant())


def rows_of(title: str, about: str, expression: str, span: int = HALF) -> Any:
    """Labels as a table."""
    panel = framed(table.Panel(), title, "none", about, span, TALL)
    return panel.with_target(asked("A", expression, "").instant().format(PromQueryFormat.TABLE))


def asked(letter: str, expression: str, name: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).expr(" ".join(expression.split())).legend_format(name)


def framed(panel: Any, title: str, unit: str, about: str, span: int, height: int) -> Any:
    place = GridPos(h=height, w=span, x=0, y=0)
    return panel.title(title).description(about).unit(unit).datasource(SOURCE).grid_pos(place)


def steps(warn: float, bad: float) -> dashboard.ThresholdsConfig:
    """Green, orange from `warn`, red from `bad`; turned round where less is worse."""
    low, high = sorted((warn, bad))
    colours = COLOURS if warn < bad else tuple(reversed(COLOURS))
    values = (None, low, high)
    found = [Threshold(value=value, color=colour) for value, colour in zip(values, colours, strict=True)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def board(
    name: str, title: str, about: str, rows: Sequence[tuple[str, Sequence[Any]]], *, by: Sequence[str] = ()
) -> Any:
    """A dashboard of named rows; `by`: labels that a reader can narrow it to, as `label of metric`."""
    made = (
        dashboard.Dashboard(title)
        .uid(f"winnow-{name}")
        .description(about)
        .tags(["winnow"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(dashboard.DashboardLink("Winnow").type(DashboardLinkType.DASHBOARDS).tags(["winnow"]).as_dropdown(True))
    )
    for label, _, metric in (one.partition(" of ") for one in by):
        made.with_variable(choice(label, metric))
    for panel in laid_out(rows):
        made.with_row(panel) if isinstance(panel, dashboard.Row) else made.with_panel(panel)
    return made


def laid_out(rows: Sequence[tuple[str, Sequence[Any]]]) -> Iterator[Any]:
    """Every row's title and its panels, numbered, from left to right and then down."""
    top, ids = 0, count(1)
    for title, panels in rows:
        yield dashboard.Row(title).id(next(ids)).grid_pos(GridPos(h=1, w=WIDE, x=0, y=top))
        top, left, deep = top + 1, 0, 0
        for panel in panels:
            size = panel.build().grid_pos
            if left + size.w > WIDE:
                top, left, deep = top + deep, 0, 0
            yield panel.id(next(ids)).grid_pos(GridPos(h=size.h, w=size.w, x=left, y=top))
            left, deep = left + size.w, max(deep, size.h)
        top += deep


def choice(label: str, metric: str) -> dashboard.QueryVariable:
    """Some or all values that a label has; `$label` in a regular expression."""
    return (
        dashboard.QueryVariable(label)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )
