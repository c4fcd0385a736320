"""The command line: one thin function a verb. Progress on stderr, results on stdout.

Exit status: 0 done, 1 failed with one clear line, 2 usage, 130 stopped by Ctrl-C (and saved).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mmapp.errors import MmappError, SettingsError
from mmapp.options import Given, settings_options
from mmapp.runs.compare import COMPARED
from mmapp.settings import DataSettings, SearchSettings, TrainSettings

app = typer.Typer(
    name="mmapp",
    help="Fine-tune BERT-plus-image fusion models, score them, predict with them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Data = Annotated[str, typer.Argument(help="A zip, a folder, a table, or sample:NAME.")]
Checkpoint = Annotated[str, typer.Argument(help="A run or checkpoint folder, or a shipped name.")]
Template = Annotated[str, typer.Option(help="What is read of each label; {} stands for its name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, whatever stdout is.")]


@app.command()
@settings_options(TrainSettings)
def train(
    data: Data,
    output: Annotated[Path, typer.Option(help="The run's folder; must not exist yet.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in it.")] = False,
    *,
    given: Given,
) -> None:
    """Fine-tune a model. The result is in OUTPUT/checkpoint."""
    from mmapp.console import run_training

    raise typer.Exit(run_training(data, output, resume, given))


@app.command()
@settings_options(SearchSettings, TrainSettings)
def search(
    data: Data,
    output: Annotated[Path, typer.Option(help="The search's folder; must not exist yet.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in it.")] = False,
    *,
    given: Given,
) -> None:
    """Try fusions, tunings and step sizes within a time; the best model is in OUTPUT/checkpoint."""
    from mmapp.console import run_training

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("A search starts its own processes: run it without accelerate launch.")
    raise typer.Exit(run_training(data, output, resume, given, search=True))


@app.command()
@settings_options(TrainSettings)
def compare(
    data: Data,
    output: Annotated[Path, typer.Option(help="Folder of the runs; done ones are not done again.")],
    fusions: Annotated[str, typer.Option(help="Names, separated by commas.")] = ",".join(COMPARED),
    tunings: Annotated[str, typer.Option(help="Names, separated by commas.")] = "full",
    seeds: Annotated[int, typer.Option(help="Runs of each, from --seed on.", min=1)] = 3,
    *,
    given: Given,
) -> None:
    """Train many models that differ in fusion, tuning and seed; print a table of test accuracies."""
    from mmapp.console import compare_runs

    compare_runs(data, output, fusions, tunings, seeds, given)


@app.command()
@settings_options(DataSettings)
def evaluate(
    checkpoint: Checkpoint,
    data: Data,
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "test",
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Answer by the names of the data's labels alone.")
    ] = False,
    template: Template = "{}",
    as_json: AsJson = False,
    *,
    given: Given,
) -> None:
    """Score a checkpoint on labelled pairs."""
    from mmapp.console import evaluate_data

    if template != "{}" and not zero_shot:
        raise SettingsError("--template says what is read of each label: give --zero-shot as well.")
    how: dict[str, Any] = {"split": split, "zero_shot": zero_shot, "template": template}
    evaluate_data(checkpoint, data, how, as_json or not sys.stdout.isatty(), given)


@app.command()
@settings_options(DataSettings)
def predict(
    checkpoint: Checkpoint,
    text: Annotated[str | None, typer.Option(help="The text of one pair.")] = None,
    image: Annotated[Path | None, typer.Option(help="The image of one pair.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Names to answer with, of an aligned checkpoint: a,b,c.")
    ] = None,
    template: Template = "{}",
    data: Annotated[str | None, typer.Option(help="Many pairs: a zip, folder or table.")] = None,
    output: Annotated[Path | None, typer.Option(help="CSV file for the answers.")] = None,
    as_json: AsJson = False,
    *,
    given: Given,
) -> None:
    """Answer for one pair (--text, --image) or for many (--data, --output)."""
    from mmapp.console import predict_data, predict_one

    if (data is None) == (text is None and image is None):
        raise SettingsError("Give either --text and/or --image, or --data with --output.")
    if labels is None and template != "{}":
        raise SettingsError("--template says what is read of each label: give --labels as well.")
    if data is None:
        predict_one(checkpoint, text, image, as_json, labels, template)
    elif labels is not None:
        raise SettingsError("--labels answers for one pair (--text, --image), not for --data.")
    elif output is None:
        raise SettingsError("--data needs --output FILE.csv.")
    else:
        predict_data(checkpoint, data, output, given)


@app.command()
def ensemble(
    checkpoints: Annotated[list[str], typer.Argument(help="Two or more that know the same labels.")],
    output: Annotated[Path, typer.Option(help="The ensemble's folder; must not exist yet.")],
    strategy: Annotated[str, typer.Option(help="mean, weighted, vote or greedy.")] = "mean",
    data: Annotated[str | None, typer.Option(help="Pairs to choose weights and report on.")] = None,
) -> None:
    """Make several checkpoints answer as one; the result is a checkpoint like any other."""
    from mmapp.console import ensemble_checkpoints

    ensemble_checkpoints(checkpoints, output, strategy, data)


@app.command()
@settings_options(DataSettings)
def check(data: Data, as_json: AsJson = False, *, given: Given) -> None:
    """What would be used of the data, and what is wrong or suspicious, row by row."""
    from mmapp.console import check_data

    check_data(data, as_json, given)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860.")] = None,
) -> None:
    """Open the app, the same as `python app.py`."""
    from mmapp.ui.interface import serve as open_app

    open_app(host or None, port)


def main() -> int:
    """Run the command line; every mistake ends in one line and a status, never in a traceback."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        return _complain(error, 2)
    except MmappError as error:
        return _complain(error, 1)
    except OSError as error:  # an output that cannot be written, a full disk
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _complain(error: Exception, status: int) -> int:
    print(f"mmapp: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
