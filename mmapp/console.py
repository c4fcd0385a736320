"""What the verbs of the command line do, and what they say while they do it.

Progress goes to stderr, results to stdout. Torch is imported only where a model is needed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmapp.choices import names_in
from mmapp.data.ingest import load_pairs
from mmapp.errors import RunError
from mmapp.runs.compare import as_markdown, compare
from mmapp.runs.run import Order, Run
from mmapp.runs.stop import StopSignal
from mmapp.runs.trials import as_text_table, in_a_line
from mmapp.settings import DataSettings, SearchSettings, TrainSettings
from mmapp.training.continuing import settings_for

if TYPE_CHECKING:
    from mmapp.inference.predictor import Predictor

STOPPED_BY_USER = 130
FIGURES = (
    "accuracy", "entity_f1", "macro_f1", "balanced_accuracy", "roc_auc", "average_precision", "log_loss"
)  # fmt: skip


def run_training(
    data: str, output: Path, resume: bool, given: dict[str, Any], search: bool = False
) -> int:
    """Train, or search, in this process; gives the exit status."""
    with StopSignal() as stop:
        run = _open_or_create(data, output, resume, given, search)
        say("loading libraries")
        from mmapp.quiet import quiet_libraries
        from mmapp.runs.worker import work

        quiet_libraries()
        status = run.status
        if status != "done":
            if _is_first():
                run.claim().release()  # a run that another process works on is left alone
                run.write_state(status="queued", message=None)
            status = work(run, stop, narrate)
    if not _is_first():
        return STOPPED_BY_USER if status == "stopped" else 0
    report = run.report() or {}
    found = report.get("search")
    if found:
        print(as_text_table(found["trials"]))
    if report:
        print(summary(report))
    if found:
        print(f"trial {found['best']} alone: {found['command']}")
    if run.has_checkpoint():
        print(f"checkpoint: {run.checkpoint}")
    if status == "stopped":
        verb = "search" if run.order().search else "train"
        say(f"stopped and saved; go on with: {verb} {data} --output {output} --resume")
        return STOPPED_BY_USER
    return 0


def _open_or_create(
    data: str, output: Path, resume: bool, given: dict[str, Any], search: bool = False
) -> Run:
    """The run in `output`. Raises RunError when it is there and was not to be resumed."""
    if not _is_first():
        return _wait_for(output)
    if resume and (output / "settings.json").is_file():
        run = Run.open(output)
        run.order()  # a checkpoint has a settings.json as well; nothing is to be written there
        if given:
            say(f"going on with the settings of {output}; the options given now are not used")
        return run
    return Run.create(output, _order(data, given, search))


def _order(data: str, given: dict[str, Any], search: bool = False) -> Order:
    """What to do, in names that stay true when the working directory changes."""
    wanted = {name: value for name, value in given.items() if name in SearchSettings.model_fields}
    settings = settings_for({name: given[name] for name in given.keys() - wanted.keys()})
    where = str(Path(data).resolve()) if Path(data).exists() else data
    tried = SearchSettings(**wanted) if search else None
    return Order(where, settings, Path(data).name, search=tried)


def compare_runs(
    data: str, output: Path, fusions: str, tunings: str, seeds: int, given: dict[str, Any]
) -> None:
    """Do the runs and print their test accuracies as a table."""
    fields = TrainSettings.model_fields
    chosen_fusions = names_in(fusions, fields["fusion"], "fusion")
    chosen_tunings = names_in(tunings, fields["tuning"], "tuning")
    order = _order(data, given)
    first = order.settings.seed
    numbers = range(first, first + seeds)
    cells = compare(output, order, chosen_fusions, chosen_tunings, numbers, tell=say)
    print(as_markdown(cells))


def _is_first() -> bool:
    """Of the processes that `accelerate launch` starts, one speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def _wait_for(output: Path) -> Run:
    """Of many processes only the first creates the folder; the others wait until it is there."""
    for _ in range(600):
        if (output / "settings.json").is_file():
            return Run.open(output)
        time.sleep(0.1)
    raise RunError(f"The first process did not create {output} within a minute.")


def evaluate_data(
    checkpoint: str, data: str, how: dict[str, Any], as_json: bool, given: dict[str, Any]
) -> None:
    """Score and print; `how` are arguments of `evaluate`."""
    from mmapp.inference.scoring import evaluate

    report = evaluate(
        _opened(checkpoint), data, **how, overrides=given, progress=counter("scored")
    )
    for note in report["notes"]:
        say(note)
    print(as_text(report) if as_json else summary(report))


def predict_one(
    checkpoint: str,
    text: str | None,
    image: Path | None,
    as_json: bool,
    labels: str | None = None,
    template: str = "{}",
) -> None:
    """Answer for one pair and print it; with `labels`, by those names alone."""
    predictor = _opened(checkpoint)
    if labels is None:
        answer = predictor.predict(text, image)
    else:
        answer = predictor.zero_shot(labels.split(","), text, image, template)
    if as_json:
        names = ("word", "tag", "confidence")
        words = [dict(zip(names, word, strict=True)) for word in answer.words]
        said = {"label": answer.label, "probabilities": answer.probabilities}
        print(as_text(said | ({"words": words} if words else {})))
        return
    for word, tag, confidence in answer.words:
        print(f"{confidence:7.4f}  {tag:<12}  {word}")
    for label, probability in answer.probabilities.items():
        print(f"{probability:7.4f}  {label}")


def predict_data(checkpoint: str, data: str, output: Path, given: dict[str, Any]) -> None:
    """Answer for every row of the data, into a CSV."""
    from mmapp.inference.answers import answer_table

    answered, rows = answer_table(
        _opened(checkpoint), data, output, overrides=given, progress=counter("answered")
    )
    say(f"{answered} of {rows} rows answered")
    print(output)


def _opened(checkpoint: str) -> Predictor:
    """The checkpoint, opened without the libraries' own lines."""
    from mmapp.inference.predictor import Predictor
    from mmapp.quiet import quiet_libraries

    quiet_libraries()
    return Predictor(checkpoint)


def ensemble_checkpoints(
    checkpoints: list[str], output: Path, strategy: str, data: str | None
) -> None:
    """Make an ensemble, and report on it where data was given."""
    from mmapp.inference.ensembling import make_ensemble
    from mmapp.quiet import quiet_libraries

    quiet_libraries()
    folder = make_ensemble(checkpoints, output, strategy, data)
    report = folder / "metrics.json"
    if report.exists():
        print(summary(json.loads(report.read_text(encoding="utf-8"))))
    print(f"checkpoint: {folder}")


def check_data(data: str, as_json: bool, given: dict[str, Any]) -> None:
    """Print what would be used of the data and every finding."""
    described = load_pairs(data, DataSettings(**given)).describe()
    print(as_text(described) if as_json else in_words(described))


def narrate(event: Any) -> None:
    """One line for what is worth one."""
    values = event.values
    if event.kind == "started":
        say(
            f"{values['pairs']} training pairs, {values['learning']:,} of {values['parameters']:,} "
            f"weights learn, {values['device']}, {values['precision']}"
        )
    elif event.kind == "encoded":
        _overwrite(f"{values['modality']} features {values['done']}/{values['total']}")
        if values["done"] == values["total"]:
            say(f"{values['modality']} features: {values['total']}, {values['found']} kept before")
    elif event.kind == "warning":
        say(values["message"])
    elif event.kind == "step":
        step, steps, left = values["step"], values["steps"], values["seconds_left"] or 0
        _overwrite(f"step {step}/{steps}, loss {values['loss']:.3f}, {left:.0f} s left")
    elif event.kind == "evaluated":
        best = ", best so far" if values.get("best") else ""
        say(
            f"epoch {values['epoch']}: training loss {values['train_loss']:.3f}, validation loss "
            f"{values['loss']:.3f}, accuracy {values['accuracy']:.3f}{best}"
        )
    elif event.kind in ("proposed", "trial"):
        say(in_a_line(values))
    elif event.kind == "finished":
        best = f"trial {values['best']}, " if values.get("best") else ""
        say(f"finished ({values['reason']}), best {best}epoch {values['best_epoch']}")


def summary(report: dict[str, Any]) -> str:
    """A report in a few lines."""
    if not report.get("n"):
        return f"{report.get('split', '')}: no rows"
    lines = [f"{report['split']}: {report['n']} pairs"]
    for name in filter(report.__contains__, FIGURES):
        low, high = report["intervals"].get(name, (math.nan, math.nan))
        interval = "" if math.isnan(low) else f"  (95 %: {low:.3f} – {high:.3f})"
        lines.append(f"  {name:<18}{report[name]:.3f}{interval}")
    if "before" in report:
        change, (low, high) = report["change"]["accuracy"], report["change"]["interval"]
        lines.append(
            f"  before: accuracy {report['before']['accuracy']:.3f}; change {change:+.3f} "
            f"({low:+.3f} – {high:+.3f})"
        )
    lines += _calibrated(report.get("calibration", {}))
    lines += _found(report.get("retrieval", {}))
    majority = report["majority"]
    lines.append(f"  always {majority['label']!r}: accuracy {majority['accuracy']:.3f}")
    width = max(len(row["label"]) for row in report["per_class"])
    lines.append(f"  {'label':<{width}}  precision  recall     f1  pairs")
    for row in report["per_class"]:
        lines.append(
            f"  {row['label']:<{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
            f"{row['f1']:5.3f}  {row['support']:5}"
        )
    return "\n".join(lines)


def _calibrated(calibration: dict[str, Any]) -> Iterator[str]:
    """What the temperature did, where there is one."""
    if calibration.get("temperature", 1.0) != 1.0:
        yield (
            f"  calibrated on validation pairs: expected calibration error {calibration['ece']:.3f}, "
            f"{calibration['ece_before']:.3f} before (temperature {calibration['temperature']:.2f})"
        )


def _found(retrieval: dict[str, Any]) -> Iterator[str]:
    """How often an aligned model finds the other half of a pair, a line a direction."""
    for direction in ("text_to_image", "image_to_text"):
        if direction in retrieval:
            found = retrieval[direction]
            low, high = found["interval"]
            yield (
                f"  {direction.replace('_', ' '):<18}{found['recall@1']:.3f}  (95 %: {low:.3f} – "
                f"{high:.3f})  found first of {found['candidates']}; by chance {found['chance@1']:.3f}"
            )


def in_words(described: dict[str, Any]) -> str:
    """`PairTable.describe()` for people."""
    lines = [f"{described['used']} of {described['rows']} rows can be used."]
    for role, choice in described["columns"].items():
        lines.append(f"{role:>6}: {choice['column'] or '-'} ({choice['reason']})")
    for name in ("classes", "splits"):
        counts = ", ".join(f"{key or '-'} {n}" for key, n in described[name].items())
        lines.append(f"{name}: {counts}")
    for finding in described["findings"]:
        where = f"row {finding['row']}: " if finding["row"] else ""
        lines.append(f"[{finding['severity']}] {where}{finding['message']}")
    return "\n".join(lines)


def as_text(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)


def say(message: str) -> None:
    """A line of progress."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{start}mmapp: {message}", file=sys.stderr, flush=True)


def _overwrite(message: str) -> None:
    """Progress that replaces itself; a log file does not need every step."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{message}", end="", file=sys.stderr, flush=True)


def counter(verb: str) -> Any:
    """A progress callback: rows done."""
    return lambda done: _overwrite(f"{verb} {done}")
