"""`winnow replay`: a data set played again month by month, its models trained anew every month or never again.

A month has a folder of its own with the models that were trained on what was known when it began, and a stamp with what
it found: a replay that was killed goes on where it was. Bundles are served as they are made, without the gate and the
registry: the question is what retraining brings, not whether a verdict would have let it through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from cli.console import bars, facts, note, show, table
from cli.evaluate import remember
from cli.homes import BUILD, AsJson, Data, HomeOption, short_name
from cli.ingest import ingested
from cli.models import Workshop
from cli.stamps import Done, Stamps, code, key_of
from cli.train import Preset, Seed
from winnow.artifacts import Bundle, Kind, open_bundle
from winnow.catalogue import Catalogue
from winnow.types import Item

if TYPE_CHECKING:
    from services.ranking.service import RankingService
    from services.retrieval.service import RetrievalService
    from training.dataset import Dataset
    from training.past import Past
    from training.questions import Question
    from training.replay import Answers, Month

REPORT = BUILD / "replay.json"
KINDS: tuple[Kind, ...] = ("retrieval", "ranking")

First = Annotated[
    str, typer.Option("--first", help="The first month, like 2010-06; where not given, after a fifth of all acts.")
]
Months = Annotated[int, typer.Option("--months", min=0, help="How many months; 0: to the end.")]
Live = Annotated[bool, typer.Option("--live", help="Through a running platform on its real parts, by its REST face.")]
People = Annotated[int, typer.Option("--people", min=0, help="How many are asked about a month; 0: all. For --live.")]
Without = Annotated[str, typer.Option("--without", help="Parts not to start, separated by commas. For --live.")]
ArmOption = Annotated[str, typer.Option("--arm", help="Play only this platform: retrained or never. For --live.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="The plot, an SVG; build/replay-<data>.svg where not given.")]


def replay(
    data: Data = "online-retail",
    home: HomeOption = None,
    preset: Preset = "quick",
    seed: Seed = 0,
    first: First = "",
    months: Months = 0,
    plot: Plot = None,
    live: Live = False,
    people: People = 0,
    without: Without = "",
    arm: ArmOption = "",
    as_json: AsJson = False,
) -> None:
    """Retrain every month or never: next-basket hit rate by month, into build/replay.json and a plot."""
    from cli import live_replay
    from cli.live_replay import Platforms
    from cli.replay_plot import drawn

    folder = home or BUILD / "replay" / short_name(data)
    with bars(disable=as_json) as progress:
        if live:
            platforms = Platforms.named(arm, without, people)
            document = live_replay.played(data, folder, preset, seed, first, months, platforms, progress)
        else:
            document = played(data, folder, preset, seed, first, months, progress)
    if "overall" not in document:
        show(document, facts("one platform played; the other is missing", document["live"][arm]), as_json)
        return
    remember(short_name(data), document, REPORT)
    picture = plot or BUILD / f"replay-{short_name(data)}.svg"
    drawn(document, picture)
    show(document, by_month(document), as_json)
    if not as_json:
        note(f"written to {REPORT} and {picture}")


def played(
    data: str, folder: Path, preset: str, seed: int, first: str, most: int, progress: Progress
) -> dict[str, Any]:
    """The replay's figures by month and over all of them."""
    from training.past import Past
    from training.replay import Month, months, overall

    summary = ingested(data, folder / "whole", progress, replace=True)
    past = Past(folder / "whole")
    chosen = months(past.whole, Month.named(first) if first else None, most)
    run = Run(past, folder, summary.digest, preset, seed, chosen[0])
    bar = progress.add_task(f"months from {chosen[0]}", total=len(chosen))
    found: list[Done] = []
    for month in chosen:
        with only_here(progress):
            found.append(run.month(month, progress))
        progress.advance(bar)
    results = [done.result for done in found]
    return {
        "data": summary.name,
        "preset": preset,
        "seed": seed,
        "months": results,
        "overall": overall(results),
        "seconds": round(sum(done.seconds for done in found)),
    }


@dataclass(frozen=True)
class Run:
    """One replay: `content` names the data, `first` the month whose models never go."""

    past: Past
    folder: Path
    content: str
    preset: str
    seed: int
    first: Month

    def month(self, month: Month, progress: Progress) -> Done:
        """What a month found, unless that is known."""

        def still(result: dict[str, Any]) -> bool:
            return all((self.folder / str(month) / "bundles" / name).is_dir() for name in result["bundles"].values())

        def work() -> dict[str, Any]:
            return self._asked(month, progress)

        key = key_of(self.content, str(month), str(self.first), self.preset, self.seed, code())
        return Stamps(self.folder / str(month)).once(self._stamp, key, work, still)

    @property
    def _stamp(self) -> str:
        return f"month-{self.first}-{self.preset}-{self.seed}"

    def _asked(self, month: Month, progress: Progress) -> dict[str, Any]:
        """Train the month's models, and ask them and those of the first month the same questions."""
        from training.replay import NEVER, RETRAINED, asked_in, figures, references

        asked, known = asked_in(self.past.whole, month), self.past.until(month.start)
        models = self.trained(month, known, progress)
        now = self._answered(month, asked, models, f"{month}: retrained", progress)
        once = now if month == self.first else self._answered(month, asked, self._kept(), f"{month}: never", progress)
        found = {
            RETRAINED: now.ranked,
            NEVER: once.ranked,
            f"{RETRAINED}, retrieval": now.retrieved,
            f"{NEVER}, retrieval": once.retrieved,
            **references(self.past.whole, month, asked),
        }
        return {
            **figures(month, asked, found),
            "acts": len(known.acts),
            "items": len(known.items),
            "bundles": {kind: bundle.path.name for kind, bundle in models.items()},
        }

    def trained(self, month: Month, known: Dataset, progress: Progress) -> dict[Kind, Bundle]:
        """The bundles of a month, which learn from what is known when it begins."""
        workshop = Workshop(self.folder / str(month), self.content, preset=self.preset, seed=self.seed)
        workshop.dataset = known
        retrieval = workshop.retrieval(progress)
        shown = workshop.impressions(retrieval, progress)
        return {"retrieval": retrieval, "ranking": workshop.ranking(retrieval, shown, progress)}

    def _kept(self) -> dict[Kind, Bundle]:
        """The bundles of the first month, which is done."""
        done = Stamps(self.folder / str(self.first)).read(self._stamp)
        assert done is not None
        folders = {kind: self.folder / str(self.first) / "bundles" / done.result["bundles"][kind] for kind in KINDS}
        return {kind: open_bundle(folder, kind) for kind, folder in folders.items()}

    def _answered(
        self, month: Month, asked: Sequence[Question], models: Mapping[Kind, Bundle], title: str, progress: Progress
    ) -> Answers:
        from training.replay import answers

        with serving(self.past.items(month.start), models) as platform:
            return asyncio.run(answers(self.past, month, asked, platform, progress, title))


@dataclass(frozen=True, eq=False)
class Serving:
    """Both services over one catalogue, in this process (`training.replay.Platform`)."""

    catalogue: Catalogue
    retrieval: RetrievalService
    ranking: RankingService

    async def take(self, items: Sequence[Item]) -> None:
        rows = self.catalogue.upsert(items)
        self.retrieval.changed(rows)
        self.ranking.changed(rows)
        await self.retrieval.settled()
        await self.ranking.settled()


@contextmanager
def serving(items: Sequence[Item], models: Mapping[Kind, Bundle]) -> Iterator[Serving]:
    """The services that serve a pair of bundles over a catalogue of these items."""
    from services.ranking import build as ranking
    from services.ranking.settings import Settings as RankingSettings
    from services.retrieval import build as retrieval
    from services.retrieval.settings import Settings as RetrievalSettings

    catalogue = Catalogue()
    catalogue.upsert(items)
    with (
        closing(retrieval.build(RetrievalSettings(), catalogue)) as retrieving,
        closing(ranking.build(RankingSettings(), catalogue)) as rating,
    ):
        retrieving.use(retrieval.load_bundle(retrieving, models["retrieval"]))
        rating.use(ranking.load_bundle(rating, models["ranking"]))
        yield Serving(catalogue, retrieving, rating)


@contextmanager
def only_here(progress: Progress) -> Iterator[None]:
    """The bars of one month go with it."""
    before = progress.task_ids
    yield
    for task in progress.task_ids:
        if task not in before:
            progress.remove_task(task)


def by_month(document: Mapping[str, Any]) -> Table:
    """HR@20 and NDCG@20 a month, the last row all months after the first."""
    from training.replay import BOUGHT, HR, NDCG, NEVER, POPULARITY, RETRAINED

    series = [name for name in (RETRAINED, NEVER, BOUGHT, POPULARITY) if name in document["months"][0][HR]]
    heads = [f"#{name}" for name in series]
    heads = ["#people", f"#{HR}: {series[0]}", *heads[1:], f"#{NDCG}: {series[0]}", *heads[1:], f"#{HR} gained", "#±"]
    made = table(f"{document['data']}: next basket by month; ± is a standard error", "month", *heads)
    for row in (*document["months"], document["overall"] | {"month": "later"}):
        if "people" in row:
            figures = [f"{row[measure][name]:.4f}" for measure in (HR, NDCG) for name in series]
            gain, error = row["gain"][HR]
            made.add_row(row["month"], f"{row['people']:,}", *figures, f"{gain:+.4f}", f"{error:.4f}")
    return made
