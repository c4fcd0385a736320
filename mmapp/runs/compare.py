"""Many runs that differ in fusion, tuning and seed, one after the other, and what they add up to.

Each is an ordinary run folder below one folder, done by a worker process of its own; a comparison
that was cut off goes on where it was, and runs that are done are not done again. Imports no torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmapp.runs.child import bring_to_end
from mmapp.runs.run import Order, Run


@dataclass(frozen=True)
class Cell:
    """One fusion with one tuning, over all seeds.

    Attributes:
        fusion: a key of FUSIONS.
        tuning: a key of TUNINGS.
        accuracies: on the test pairs, one a seed that came to an end.
        failures: what was wrong with the others.
    """

    fusion: str
    tuning: str
    accuracies: tuple[float, ...]
    failures: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    def shown(self) -> str:
        """ "0.930 (0.914 – 0.943)": mean, lowest and highest over the seeds."""
        if not self.accuracies:
            return "failed"
        low, high = min(self.accuracies), max(self.accuracies)
        return f"{self.mean:.3f} ({low:.3f} – {high:.3f})" if low < high else f"{self.mean:.3f}"


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
        base: the data and every knob that does not differ.
        fusions: those to compare.
        tunings: those to compare each fusion with.
        seeds: each is a run of its own, with other first weights, order and deal.
        tell: called with a line for every run.

    Raises:
        RunError: a folder of that name holds something else.
        SettingsError: a knob is out of bounds.
    """
    cells = []
    for fusion in fusions:
        for tuning in tunings:
            runs = [
                _done(folder, base, fusion=fusion, tuning=tuning, seed=seed, tell=tell)
                for seed in seeds
            ]
            cells.append(_cell(fusion, tuning, runs))
    return cells


def _done(folder: Path, base: Order, *, tell: Callable[[str], None], **knobs: Any) -> Run:
    """The run with these knobs, brought to its end if it was not there yet."""
    name = "_".join(str(value) for value in knobs.values())
    place = folder / name
    order = replace(base, settings=base.settings.replace(**knobs))
    run = Run.open(place) if (place / "settings.json").is_file() else Run.create(place, order)
    if run.status not in ("done", "failed"):
        tell(f"{name} …")
        bring_to_end(run)
    report = run.report()
    said = f"test accuracy {report['accuracy']:.3f}" if report else run.state().get("message", "")
    tell(f"{name}: {said or run.status}")
    return run


def _cell(fusion: str, tuning: str, runs: Sequence[Run]) -> Cell:
    reports = [run.report() for run in runs]
    found = tuple(report["accuracy"] for report in reports if report)
    failures = tuple(
        str(run.state().get("message") or run.status)
        for run, report in zip(runs, reports, strict=True)
        if not report
    )
    return Cell(fusion, tuning, found, failures)


def as_markdown(cells: Sequence[Cell]) -> str:
    """A table, fusions down and tunings across."""
    tunings = list(dict.fromkeys(cell.tuning for cell in cells))
    found = {(cell.fusion, cell.tuning): cell.shown() for cell in cells}

    def lines() -> Iterator[str]:
        yield f"| fusion | {' | '.join(tunings)} |"
        yield f"|---|{'---|' * len(tunings)}"
        for fusion in dict.fromkeys(cell.fusion for cell in cells):
            yield f"| {fusion} | {' | '.join(found[fusion, tuning] for tuning in tunings)} |"

    return "\n".join(lines())
