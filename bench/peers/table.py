"""The comparison as a table: on the terminal, and in Markdown for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from bench.peers.trial import Row

FIGURES = {  # heading: name of the figure, digits after the point
    "one user p50, ms": ("one_p50_ms", 2),
    "p99": ("one_p99_ms", 2),
    "CPU ms": ("one_cpu_ms", 2),
    "a core's requests/s": ("one_per_core_s", 0),
    "batch, CPU ms a user": ("batch_cpu_ms", 3),
    "HTTP p50, ms": ("http_p50_ms", 2),
    "p99 (HTTP)": ("http_p99_ms", 2),
    "CPU ms (HTTP)": ("http_cpu_ms", 2),
    "a core's requests/s (HTTP)": ("http_per_core_s", 0),
    "RSS, MB": ("rss_mb", 0),
    "fit, s": ("fit_s", 1),
}
FEATURES = {"p50, ms": ("p50_ms", 1), "p99, ms": ("p99_ms", 1), "CPU ms": ("cpu_ms", 1)}


def cells(row: Row, headings: Mapping[str, tuple[str, int]]) -> list[str]:
    return [f"{row.figures[name]:,.{digits}f}" if name in row.figures else "–" for name, digits in headings.values()]


def quality(row: Row) -> str:
    return f"{row.figures['ndcg_at_10']:.4f} ± {row.figures['ndcg_error']:.4f}" if "ndcg_at_10" in row.figures else "–"


def model_table(rows: Sequence[Row]) -> Table:
    return table("ten unseen items for one user", {"NDCG@10": "", **FIGURES}, [(row, model_cells(row)) for row in rows])


def feature_table(rows: Sequence[Row]) -> Table:
    return table("features of 500 items", FEATURES, [(row, cells(row, FEATURES)) for row in rows])


def model_cells(row: Row) -> list[str]:
    return [quality(row), *cells(row, FIGURES)]


def table(title: str, headings: Mapping[str, object], rows: Sequence[tuple[Row, list[str]]]) -> Table:
    shown = Table("", *headings, title=title, title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row, figures in rows:
        shown.add_row(row.title, *([f"failed: {row.fault}"] if row.fault else figures))
    return shown


def markdown(models: Sequence[Row], features: Sequence[Row], about: Mapping[str, object]) -> str:
    """Both tables, what was compared, and on what."""
    said = (
        f"{about['data']}, the last act of {about['people']} people held out; everybody on one thread; {about['cpu']}, "
        f"{about['cores']} cores, {about['date']}. HTTP at {about['rate']:g} requests a second. A peer scores one model; "
        "Winnow's platform reads features, asks five sources, ranks, arranges and explains."
    )
    of_models = lines(["", "NDCG@10", *FIGURES], [(row, model_cells(row)) for row in models])
    of_features = lines(["500 rows of features", *FEATURES], [(row, cells(row, FEATURES)) for row in features])
    return "\n".join([said, "", *of_models, "", *of_features, ""])


def lines(headings: Sequence[str], rows: Sequence[tuple[Row, list[str]]]) -> list[str]:
    """A Markdown table; a peer that failed has its error in place of its figures."""
    filled = [
        [
            row.title,
            *(["failed: " + row.fault.replace("|", "/"), *[""] * (len(headings) - 2)] if row.fault else figures),
        ]
        for row, figures in rows
    ]
    return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in (headings, ["---"] * len(headings), *filled)]
