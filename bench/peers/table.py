"""The comparison as a table: on the terminal, and in Markdown for the README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from bench.peers.trial import Row

Headings = Mapping[str, tuple[str, int]]  # heading: name of the figure, digits after the point

IN_PROCESS: Headings = {
    "p50, ms": ("one_p50_ms", 2),
    "p99, ms": ("one_p99_ms", 2),
    "CPU ms": ("one_cpu_ms", 2),
    "a core's requests/s": ("one_per_core_s", 0),
    "batch, CPU ms a user": ("batch_cpu_ms", 3),
    "fit, s": ("fit_s", 1),
    "RSS, MB": ("rss_mb", 0),
}
OVER_HTTP: Headings = {
    "p50, ms": ("http_p50_ms", 2),
    "p99, ms": ("http_p99_ms", 2),
    "CPU ms": ("http_cpu_ms", 2),
    "a core's requests/s": ("http_per_core_s", 0),
}
FEATURES: Headings = {"p50, ms": ("p50_ms", 1), "p99, ms": ("p99_ms", 1), "CPU ms": ("cpu_ms", 1)}
ASKED, SERVED, READ = "ten unseen items for one user, in process", "the same over HTTP", "features of 500 items"


def cells(row: Row, headings: Headings) -> list[str]:
    return [f"{row.figures[name]:,.{digits}f}" if name in row.figures else "–" for name, digits in headings.values()]


def quality(row: Row) -> str:
    return f"{row.figures['ndcg_at_10']:.4f} ± {row.figures['ndcg_error']:.4f}" if "ndcg_at_10" in row.figures else "–"


def parts(models: Sequence[Row], features: Sequence[Row]) -> list[tuple[list[str], list[tuple[Row, list[str]]]]]:
    """Headings and lines of each table; who has no server, or is nothing but one, is in one of the first two alone."""
    asked = [
        (row, [quality(row), *cells(row, IN_PROCESS)]) for row in models if row.fault or "one_p50_ms" in row.figures
    ]
    served = [(row, [quality(row), *cells(row, OVER_HTTP)]) for row in models if "http_p50_ms" in row.figures]
    read = [(row, cells(row, FEATURES)) for row in features]
    return [
        ([ASKED, "NDCG@10", *IN_PROCESS], asked),
        ([SERVED, "NDCG@10", *OVER_HTTP], served),
        ([READ, *FEATURES], read),
    ]


def tables(models: Sequence[Row], features: Sequence[Row]) -> Iterator[Table]:
    for (title, *headings), lines in parts(models, features):
        shown = Table("", *headings, title=title, title_justify="left")
        for column in shown.columns[1:]:
            column.justify = "right"
        for row, figures in lines:
            shown.add_row(row.title, *([f"failed: {row.fault}"] if row.fault else figures))
        if lines:
            yield shown


def markdown(models: Sequence[Row], features: Sequence[Row], about: Mapping[str, object]) -> str:
    """The tables, what was compared, and on what."""
    said = (
        f"{about['data']}, the last act of {about['people']} people held out; everybody on one thread; {about['cpu']}, "
        f"{about['cores']} cores, {about['date']}. HTTP at {about['rate']:g} requests a second. A peer scores one model; "
        "Winnow's platform reads features, asks five sources, ranks, arranges and explains."
    )
    made = ["\n".join(lines(headings, rows)) for headings, rows in parts(models, features) if rows]
    return "\n\n".join([said, *made]) + "\n"


def lines(headings: Sequence[str], rows: Sequence[tuple[Row, list[str]]]) -> list[str]:
    """A Markdown table; a peer that failed has its error in place of its figures."""
    filled = [[row.title, *(failed(row, len(headings)) if row.fault else figures)] for row, figures in rows]
    return [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in (headings, ["---"] * len(headings), *filled)]


def failed(row: Row, columns: int) -> list[str]:
    return ["failed: " + row.fault.replace("|", "/"), *[""] * (columns - 2)]
