"""What a page can be made of besides the best scores: stages that reorder candidates so that a list is varied.

Each takes an order (rows of the candidates, best first) and columns, and gives an order back; those that choose look at
the first `POOL` candidates and let the others follow as they came. `vectors` (n, d) have norm 1: their inner product is
the likeness of two items. Scores are brought to one scale, 0 to 1, so that a strength means the same for every objective.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from winnow.catalogue import Mask, Rows
from winnow.types import Floats

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]

POOL = 200  # candidates that a stage chooses from
DUPLICATE = 0.95  # cosine from which two items are the same thing twice
RIDGE = 1e-6  # what an item that is one of the chosen again still adds
BLOCK = 10  # places in which a group is counted: a page
PLACES = 50  # up to which pages are arranged place by place: the first five


def without_duplicates(order: Rows, vectors: Floats, most: float = DUPLICATE, pool: int = POOL) -> Rows:
    """The order with near-duplicates of earlier items moved behind everything: nothing is lost where a list is short."""
    return np.concatenate(apart(order, vectors, most, pool))


def apart(order: Rows, vectors: Floats, most: float = DUPLICATE, pool: int = POOL) -> tuple[Rows, Rows]:
    """The order without near-duplicates of earlier items, and these."""
    head = order[:pool]
    alike = vectors[head] @ vectors[head].T > most
    kept = np.ones(len(head), np.bool_)
    for place in np.flatnonzero(np.triu(alike, 1).any(0)):
        kept[place] = not (alike[place, :place] & kept[:place]).any()
    return np.concatenate([head[kept], order[pool:]]), head[~kept]


def mmr(order: Rows, scores: Scores, vectors: Floats, n: int, strength: float, pool: int = POOL) -> Rows:
    """`n` items by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): each next one has the best of
    (1 - strength) × score - strength × its likeness to the most alike item chosen before."""
    head = order[:pool]
    worth = (1.0 - strength) * unit(scores[head])
    beside = worth - strength * np.maximum(vectors[head] @ vectors[head].T, 0.0)  # (i, j): worth of j once i is chosen
    chosen: list[int] = []
    for _ in range(min(n, len(head))):
        best = int(worth.argmax())
        chosen.append(best)
        np.minimum(worth, beside[best], out=worth)
        worth[best] = -np.inf
    return first_chosen(order, head, chosen)


def dpp(order: Rows, scores: Scores, vectors: Floats, n: int, strength: float, pool: int = POOL) -> Rows:
    """`n` items that are a likely set of a determinantal point process, found greedily (Chen et al., NeurIPS 2018): each
    next one has the best of (1 - strength) × score + strength × log of what it adds to the volume that the chosen span."""
    head = order[:pool]
    worth, own = (1.0 - strength) * unit(scores[head]), vectors[head].astype(np.float64)
    likeness = (1.0 + own @ own.T) / 2.0  # 0 to 1, and as a matrix still positive semi-definite
    spanned = np.zeros((min(n, len(head)), len(head)))
    added = np.full(len(head), 1.0 + RIDGE)
    chosen: list[int] = []
    for step in range(len(spanned)):
        best = int(np.argmax(worth + strength * np.log(added)))
        chosen.append(best)
        worth[best] = -np.inf
        spanned[step] = (likeness[best] - spanned[:step, best] @ spanned[:step]) / np.sqrt(added[best])
        added = np.maximum(added - spanned[step] ** 2, RIDGE)
    return first_chosen(order, head, chosen)


def capped(order: Rows, group: Rows, most: int, places: int = POOL, block: int = BLOCK) -> Rows:
    """Of each `block` places among the first `places`, a group has no more than `most`: what is beyond waits for the next
    block. `group` is per candidate, -1 where it has none. Where others run out, every group has `most` more; a page lacks
    nothing."""
    made: list[Rows] = []
    while len(order) and len(made) * block < places:
        turn = next_of(group[order], most, block)
        made.append(order[turn])
        order = np.delete(order, turn)
    return np.concatenate([*made, order])


def next_of(group: Rows, most: int, n: int) -> Rows:
    """Places of the first `n` of which no group has more than `most`, as far as there are others. Mostly they are near the
    front, and only where they are not is everything looked at."""
    near = np.flatnonzero(rounds(group[: 4 * n], most) == 0)[:n]
    return near if len(near) == n else np.argsort(rounds(group, most), kind="stable")[:n]


def rounds(group: Rows, most: int) -> Rows:
    """0 for the first `most` of each group, 1 for its next `most`, and so on; 0 for what has no group."""
    place = np.argsort(group, kind="stable")
    nth = np.empty(len(group), np.int64)
    nth[place] = np.arange(len(group)) - np.searchsorted(group[place], group[place], "left")
    return np.where(group < 0, 0, nth // most)


def freshened(order: Rows, scores: Scores, young: Floats, strength: float) -> Rows:
    """Ordered by score + strength × youth (n,), which is 1 for what is new and falls towards 0 with age."""
    return ordered(order, with_youth(scores, young, strength))


def with_youth(scores: Scores, young: Floats, strength: float) -> Scores:
    return unit(scores) + strength * young


def ordered(order: Rows, scores: Scores) -> Rows:
    """By falling score; equals keep their order."""
    return order[np.argsort(-scores[order], kind="stable")]


def with_share(order: Rows, marked: Mask, share: float) -> Rows:
    """The order in which, of the first m items, at least floor(share × m) are marked ones (new items, say) as long as
    there are any: each is lifted to the last place that keeps the promise, and no higher than it stood. Pages of one
    order cut anywhere keep it, too."""
    if share <= 0.0 or not len(order):
        return order
    own = np.flatnonzero(marked[order])
    with np.errstate(over="ignore"):  # a share of next to nothing promises a place beyond every list
        latest = np.ceil(np.arange(1, len(own) + 1) / share - 1e-9) - 1
    slots = np.minimum(own, latest).astype(np.int64)
    made = np.empty_like(order)
    taken = np.zeros(len(order), np.bool_)
    taken[slots] = True
    made[slots], made[~taken] = order[own], order[~marked[order]]
    return made


def placed(
    order: Rows,
    marks: npt.NDArray[np.bool_],
    least: Rows,
    most: Rows,
    fixed: Mapping[int, int],
    places: int = PLACES,
    block: int = BLOCK,
) -> Rows:
    """Of each `block` places among the first `places`, group g has at least `least[g]` and at most `most[g]`, and the
    candidates `fixed` stand at their places; as far as there are items for it, and otherwise in the order.

    `marks` (groups, candidates): which candidate is in which group. Where not all can be had, a fixed place goes before a
    most, and that before a least; a page lacks nothing.
    """
    last = min(places, len(order))
    fixed = {place: row for place, row in fixed.items() if place < last}
    free = order[~np.isin(order, list(fixed.values()))]
    own, here = marks[:, free], np.ones(len(free), np.bool_)
    there = own.sum(axis=1)  # of each group, still to be placed
    chosen: list[int] = []
    for start in range(0, last, block):
        end = min(start + block, last)
        pinned = [fixed[place] for place in range(start, end) if place in fixed]
        have, left = marks[:, pinned].sum(axis=1), end - start - len(pinned)
        for place in range(start, end):
            if place in fixed:
                chosen.append(fixed[place])
                continue
            left -= 1
            turn = next_allowed(own, here, np.minimum(least - have, there).clip(0), have >= most, left)
            have, there = have + own[:, turn], there - own[:, turn]
            here[turn] = False
            chosen.append(int(free[turn]))
    return np.concatenate([np.asarray(chosen, np.int64), free[here]])


def next_allowed(
    own: npt.NDArray[np.bool_], here: npt.NDArray[np.bool_], lacks: Rows, full: npt.NDArray[np.bool_], left: int
) -> int:
    """The first of the candidates `here` (n,; one at least) that may stand next: of no group that is `full`, and so that what
    groups lack still fits into the `left` places behind it, or as much of it as can. `own` (groups, n) says who is in which group."""
    first = int(here.argmax())
    spare = left - int(lacks.sum())
    if not (own[:, first] & full).any() and (spare >= 0 or spare + int((own[:, first] & (lacks > 0)).sum()) >= 0):
        return first
    fits = here & ~own[full].any(axis=0)
    if not fits.any():
        return first
    short = -(spare + own[lacks > 0].sum(axis=0))  # of what groups lack, what no longer fits behind it
    return int((fits & (short <= max(0, int(short[fits].min())))).argmax())


def unit(scores: Scores) -> npt.NDArray[np.float64]:
    """Scores on the scale 0 (worst) to 1 (best); all 1 where they are equal."""
    values = scores.astype(np.float64)
    spread = float(np.ptp(values)) if len(values) else 0.0
    return (values - values.min()) / spread if spread else np.ones(len(values))


def first_chosen(order: Rows, head: Rows, chosen: list[int]) -> Rows:
    """The chosen of the head, its others, the rest of the order."""
    others = np.ones(len(head), np.bool_)
    others[chosen] = False
    return np.concatenate([head[chosen], head[others], order[len(head) :]])
