"""Bundles to promote in a drill: good ones that differ from the champions, a corrupt one, one with a foreign schema."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from bench.worlds import Say, World, bundles_of, impressions
from winnow.artifacts import MANIFEST, Bundle, open_bundle, seal

SEED = 1


@dataclass(frozen=True)
class Rivals:
    """The good ones by kind, and two rankers that must be refused, the first for its content, the second because it
    asks for a feature that nobody computes."""

    retrieval: Bundle
    ranking: Bundle
    corrupt: Bundle
    foreign: Bundle


def rivals(world: World, folder: Path, say: Say) -> Rivals:
    """The good ones are trained once and lie beside the world's own; the others are made in `folder`, anew each time."""
    note = world.home / "rivals.json"
    if not note.is_file():
        say("training two rivals of the champions, once")
        made = {"retrieval": rival_retrieval(world).path.name, "ranking": rival_ranking(world).path.name}
        note.write_text(json.dumps(made), encoding="utf-8")
    names = json.loads(note.read_text(encoding="utf-8"))
    bundles = world.home / "bundles"
    ranking = open_bundle(bundles / names["ranking"], "ranking")
    corrupt = variant(ranking, folder / "corrupt")
    spoil(corrupt.path)
    return Rivals(
        open_bundle(bundles / names["retrieval"], "retrieval"), ranking, corrupt, variant(ranking, folder / "foreign")
    )


def rival_retrieval(world: World) -> Bundle:
    from training.dataset import load
    from training.retrieval_bundle import write_bundle
    from training.split import split
    from training.train_retrieval import fit_towers, preset

    dataset, settings = load(world.home), preset("full", seed=SEED)
    settings = replace(settings, loop=replace(settings.loop, epochs=1))
    trained = fit_towers(dataset, split(dataset, "serve"), settings, None)
    return write_bundle(dataset, trained, world.home / "bundles", neighbours=settings.neighbours, metrics={}, seed=SEED)


def rival_ranking(world: World) -> Bundle:
    from training.dataset import load
    from training.split import split
    from training.train_ranking import preset, train

    dataset = load(world.home)
    retrieval, _ = bundles_of(world)
    lists = impressions(dataset, split(dataset, "serve"), retrieval, world.home)
    settings = preset("quick", seed=SEED)
    bundle = train(lists, replace(settings, loop=replace(settings.loop, epochs=1)), world.home / "bundles")
    assert bundle is not None
    return bundle


def variant(good: Bundle, path: Path) -> Bundle:
    """The same files under another id; one called `foreign` asks for a feature that this release does not know."""
    shutil.copytree(good.path, path)
    (path / MANIFEST).unlink()
    facts = json.loads(json.dumps(good.facts))
    if path.name == "foreign":
        facts["schemas"]["user"]["names"].append("shoe_size")
    return seal(path, good.kind, facts=facts, metrics={}, data={"variant": path.name})


def spoil(path: Path) -> None:
    """Change one byte of a bundle's largest file, which its manifest then contradicts."""
    file = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
