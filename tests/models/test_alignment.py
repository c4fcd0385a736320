"""The joint space: unit vectors, zeros for what is absent, and nothing at all where nobody asked."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mmapp.data.pairs import PairTable
from mmapp.evaluation.outputs import forward_inputs
from mmapp.models.alignment import Alignment
from mmapp.models.model import FusionModel, FusionOutput
from mmapp.settings import TrainSettings
from mmapp.storage.checkpoint import load_checkpoint
from mmapp.training.prepare import Prepared, prepare


@pytest.fixture
def alignment() -> Alignment:
    made = Alignment(4)
    made.reset_parameters()
    return made


@pytest.fixture
def aligned(gappy_pairs: PairTable, quick: TrainSettings) -> Prepared:
    return prepare(gappy_pairs, quick.replace(alignment=1.0))


def forward(prepared: Prepared) -> tuple[FusionOutput, torch.Tensor]:
    """Of all training rows at once, and which halves they have."""
    dataset = prepared.loaders.train.dataset
    batch = dataset.collate([dataset[i] for i in range(len(dataset))])
    with torch.no_grad():
        return prepared.model.eval()(**forward_inputs(batch)), batch["present"]


def test_halves_have_length_one_and_absent_ones_none(aligned: Prepared) -> None:
    output, present = forward(aligned)

    assert not present.all()
    torch.testing.assert_close(output.joint.norm(dim=-1), present.float())


def test_a_joint_vector_is_its_own_halfs_alone(alignment: Alignment) -> None:
    text, image = torch.randn(3, 4), torch.randn(3, 4)
    other = torch.randn(3, 4)

    joint, exchanged = alignment(text, image, None), alignment(text, other, None)

    assert torch.equal(joint[:, 0], exchanged[:, 0])
    assert not torch.isclose(joint[:, 1], exchanged[:, 1]).any()


def test_the_scale_begins_as_in_clip_and_stays_below_a_hundred(alignment: Alignment) -> None:
    assert alignment.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        alignment.log_scale.fill_(math.log(1000))
    assert alignment.scale.item() == pytest.approx(100)


def test_half_precision_does_not_reach_the_cosines(alignment: Alignment) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        joint = alignment(torch.randn(3, 4), torch.randn(3, 4), None)

    assert joint.dtype == torch.float32
    torch.testing.assert_close(joint.norm(dim=-1), torch.ones(3, 2))


def test_without_alignment_there_is_no_trace_of_it(
    small_pairs: PairTable, quick: TrainSettings
) -> None:
    model = prepare(small_pairs, quick).model
    aligned = prepare(small_pairs, quick.replace(alignment=1.0)).model
    more = aligned.state_dict().keys() - model.state_dict().keys()

    assert {name.split(".")[0] for name in more} == {"alignment"}
    assert model.alignment is None
    assert not model.config.alignment


def test_checkpoints_of_before_open_as_they_were() -> None:
    model, _ = load_checkpoint("digits")
    output = model(torch.tensor([[2, 3]]), torch.ones(1, 2), torch.zeros(1, 3, 32, 32))

    assert (model.alignment, output.joint, output.scale) == (None, None, None)


def test_it_is_saved_and_opened_with_the_model(aligned: Prepared, tmp_path: Path) -> None:
    aligned.model.save_pretrained(tmp_path)
    before, _ = forward(aligned)

    opened = FusionModel.from_pretrained(tmp_path)
    after, _ = forward(Prepared(opened, aligned.processor, aligned.loaders))

    assert torch.equal(before.joint, after.joint)
    assert torch.equal(before.scale, after.scale)
