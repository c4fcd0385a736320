"""Settings of a run that starts from a checkpoint hold what the checkpoint was trained with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmapp import continued
from mmapp.errors import CheckpointError, SettingsError
from mmapp.runs.run import Run
from mmapp.settings import TrainSettings
from mmapp.storage.ensemble import save_ensemble

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "digits"


def test_encoders_sizes_task_and_deal_are_the_checkpoints(first_run: Run) -> None:
    settings = continued(first_run.folder)

    assert settings == TrainSettings(
        start_from=str(first_run.folder),
        text_encoder="tiny-bert",
        fusion="bilinear",
        width=8,
        max_length=16,
        image_size=32,
        task="classify",
        test_fraction=0.2,
    )


def test_a_shipped_one_of_an_older_version_keeps_its_name(first_run: Run) -> None:
    """Its config.json knows nothing of the setting `task` of the data."""
    settings = continued("digits", epochs=1, tuning="head")

    expected = {"start_from": "digits", "task": "match", "image_size": 32, "fusion": "attention"}
    assert settings == TrainSettings(**expected, epochs=1, tuning="head")


def test_what_is_given_goes_first(first_run: Run) -> None:
    given = {"fusion": "concat", "seed": 3, "task": "auto", "test_fraction": 0.1, "width": 16}
    settings = continued(first_run.folder, **given)

    assert {name: getattr(settings, name) for name in given} == given


def test_an_aligned_model_stays_one(first_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first_run.checkpoint, tmp_path / "aligned"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "alignment": 0.5}))

    assert continued(folder).alignment == 0.5
    assert continued(folder, alignment=0.0).alignment == 0.0
    del config["alignment"]  # as in the checkpoints of before
    (folder / "config.json").write_text(json.dumps(config))
    assert continued(folder).alignment == 0.0


def test_columns_come_along_where_they_were_named(first_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first_run.checkpoint, tmp_path / "mine"))
    config = json.loads((folder / "config.json").read_text())
    config["data_settings"]["text_column"] = "title"
    (folder / "config.json").write_text(json.dumps(config))

    assert continued(folder).text_column == "title"
    assert continued(folder, text_column=None).text_column is None


def test_the_same_encoder_by_its_folder_is_the_same(first_run: Run, tiny_bert: Path) -> None:
    settings = continued(first_run.folder, text_encoder=str(tiny_bert))

    assert settings.text_encoder == str(tiny_bert)


def test_another_encoder_is_refused_with_both_names(first_run: Run) -> None:
    with pytest.raises(SettingsError) as refused:
        continued(first_run.folder, image_encoder="torchvision:resnet50")
    assert str(refused.value) == (
        "The model to start from was trained with the image encoder scratch:cnn, and "
        "torchvision:resnet50 is wanted. A run that goes on from it keeps its encoders: leave "
        "image_encoder out, or start from nothing."
    )


def test_an_ensemble_is_refused_in_words(tmp_path: Path) -> None:
    save_ensemble(tmp_path / "both", [SHIPPED, SHIPPED], "mean", [1, 1], None)

    with pytest.raises(CheckpointError, match="^both is an ensemble"):
        continued(tmp_path / "both")


def test_what_is_not_ours_is_refused_in_words(tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text('{"fusion": "concat"}')

    with pytest.raises(CheckpointError, match="is no checkpoint of this app: 'text_encoder'"):
        continued(tmp_path)


def test_it_imports_no_torch() -> None:
    code = "import sys, mmapp; mmapp.continued('digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
