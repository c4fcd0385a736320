"""Many runs that differ in fusion, tuning and seed, and what they add up to.

A comparison is a name that the orders of its runs share. Each is an ordinary run: the page puts them
into its queue, the command line does them one after the other, and goes on where it was cut off.
Imports no torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from mmapp.errors import MmappError, SettingsError
from mmapp.runs.child import bring_to_end
from mmapp.runs.run import OVER, Order, Run, list_runs

# What answers first whether the image helps, and whether it matters how the two are joined.
COMPARED = ("text-only", "image-only", "concat", "bilinear", "attention")


@dataclass(frozen=True)
class Plan:
    """What a comparison comes to.

    Attributes:
        orders: one a fusion, tuning and seed.
        left_out: why a fusion and a tuning cannot be had together, a sentence each.
    """

    orders: tuple[Order, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One fusion with one tuning, over all seeds.

    Attributes:
        fusion: a key of FUSIONS.
        tuning: a key of TUNINGS.
        accuracies: on the test pairs, one a seed that came to its end.
        failures: what was wrong with those that failed.
        stopped: how many were stopped before their end.
        waiting: how many are queued or at work.
    """

    fusion: str
    tuning: str
    accuracies: tuple[float, ...]
    failures: tuple[str, ...] = ()
    stopped: int = 0
    waiting: int = 0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    def shown(self) -> str:
        """ "0.930 (0.914 – 0.943), 1 waiting": mean, lowest and highest over the seeds; the rest."""
        said = []
        if self.accuracies:
            low, high = min(self.accuracies), max(self.accuracies)
            said.append(f"{self.mean:.3f} ({low:.3f} – {high:.3f})" if low < high else f"{high:.3f}")
        rest = {"waiting": self.waiting, "stopped": self.stopped, "failed": len(self.failures)}
        return ", ".join([*said, *(f"{count} {word}" for word, count in rest.items() if count)])


def plan(
    base: Order, fusions: Sequence[str], tunings: Sequence[str], seeds: Sequence[int], group: str
) -> Plan:
    """The runs of a comparison: the first seed of all of them, then the second, so that one that is
    cut short still compares.

    Args:
        base: the data and every knob that does not differ.
        fusions: those to compare.
        tunings: those to compare each fusion with.
        seeds: each is a run of its own, with other first weights, order and deal.
        group: the name that the runs will share.

    Raises:
        SettingsError: no fusion can be had with any of the tunings.
    """
    possible, left_out = [], []
    for fusion, tuning in product(fusions, tunings):
        try:
            possible.append(base.settings.replace(fusion=fusion, tuning=tuning))
        except SettingsError as error:
            left_out.append(str(error))
    if left_out and not possible:
        raise SettingsError(left_out[0])
    orders = (
        replace(base, settings=settings.replace(seed=seed), group=group)
        for seed, settings in product(seeds, possible)
    )
    return Plan(tuple(orders), tuple(left_out))


def compare(
    folder: Path,
    base: Order,
    fusions: Sequence[str],
    tunings: Sequence[str],
    seeds: Sequence[int],
    tell: Callable[[str], None] = lambda line: None,
) -> list[Cell]:
    """Do every run that is not done yet, and gather the test accuracies.

    Args:
        folder: holds one run folder for each fusion, tuning and seed.
        base: see `plan`, as for the next three.
        fusions: those to compare.
        tunings: those to compare each fusion with.
        seeds: one run each.
        tell: called with a line for every run, and for what cannot be had together.

    Raises:
        RunError: a folder of that name holds something else.
        SettingsError: a knob is out of bounds, or nothing is left to compare.
    """
    planned = plan(base, fusions, tunings, seeds, group=folder.resolve().name)
    for reason in planned.left_out:
        tell(f"left out: {reason}")
    return gather([_done(folder, order, tell) for order in planned.orders])


def _done(folder: Path, order: Order, tell: Callable[[str], None]) -> Run:
    """The run of this order, brought to its end if it was not there yet."""
    settings = order.settings
    name = f"{settings.fusion}_{settings.tuning}_{settings.seed}"
    place = folder / name
    run = Run.open(place) if (place / "settings.json").is_file() else Run.create(place, order)
    if run.status not in ("done", "failed"):
        tell(f"{name} …")
        bring_to_end(run)
    report = run.report()
    said = f"test accuracy {report['accuracy']:.3f}" if report else run.state().get("message", "")
    tell(f"{name}: {said or run.status}")
    return run


def comparisons(folder: Path) -> dict[str, list[Run]]:
    """The comparisons among the runs below a folder: name -> its runs in the order of their making.

    The newest comparison comes first.
    """
    found: dict[str, list[Run]] = {}
    for run, order in _orders(folder):
        if order.group:
            found.setdefault(order.group, []).insert(0, run)
    return found


def seconds_of_one(folder: Path, order: Order) -> float | None:
    """About how long one run takes: the median an epoch of the runs below a folder that are done with
    the same data and encoders, times the epochs asked for; None when there is none."""

    def kind(some: Order) -> tuple[str, ...]:
        search = "" if some.search is None else "search"
        return some.data, some.settings.text_encoder, some.settings.image_encoder, search

    found = []
    for run, other in _orders(folder):
        report = run.report() or {}
        if kind(other) == kind(order) and "timing" in report and run.status == "done":
            found.append(report["timing"]["seconds"] / other.settings.epochs)
    return statistics.median(found) * order.settings.epochs if found else None


def _orders(folder: Path) -> Iterator[tuple[Run, Order]]:
    """The runs below a folder, the newest first, with their orders."""
    for run in list_runs(folder):
        try:
            yield run, run.order()
        except MmappError:
            continue  # of another version of the app, or damaged


def gather(runs: Iterable[Run]) -> list[Cell]:
    """What the runs add up to, a cell for each fusion and tuning in the order they first come in."""
    alike: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        settings = run.order().settings
        alike.setdefault((settings.fusion, settings.tuning), []).append(run)
    return [_cell(fusion, tuning, members) for (fusion, tuning), members in alike.items()]


def _cell(fusion: str, tuning: str, runs: Sequence[Run]) -> Cell:
    accuracies, failures, stopped, waiting = [], [], 0, 0
    for run in runs:
        state, report = run.state(), run.report()
        if state["status"] == "done" and report:
            accuracies.append(report["accuracy"])
        elif state["status"] not in OVER:
            waiting += 1
        elif state["status"] == "stopped":
            stopped += 1
        else:
            failures.append(str(state.get("message") or state["status"]))
    return Cell(fusion, tuning, tuple(accuracies), tuple(failures), stopped, waiting)


def as_grid(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table, fusions down and tunings across."""
    tunings = list(dict.fromkeys(cell.tuning for cell in cells))
    shown = {(cell.fusion, cell.tuning): cell.shown() for cell in cells}
    fusions = dict.fromkeys(cell.fusion for cell in cells)
    rows = [[fusion, *(shown.get((fusion, tuning), "–") for tuning in tunings)] for fusion in fusions]
    return ["fusion", *tunings], rows


def as_markdown(cells: Sequence[Cell]) -> str:
    """The same as a table of Markdown."""
    header, rows = as_grid(cells)
    first, *others = (f"| {' | '.join(line)} |" for line in [header, *rows])
    return "\n".join([first, "|---" * len(header) + "|", *others])
