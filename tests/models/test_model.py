"""FusionModel: absence cannot leak, saved is what was trained, built without weights or network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, BertConfig

from mmapp.errors import SettingsError
from mmapp.models.configuration import FusionConfig
from mmapp.models.encoders import Encoding
from mmapp.models.fusion import FUSIONS
from mmapp.models.model import FusionModel
from mmapp.models.projection import Projection, Standardise
from mmapp.models.scratch import SmallCnnConfig

Inputs = dict[str, torch.Tensor]
BOTH = {"text", "image"}


def tiny_config(fusion: str = "attention", **changes: object) -> FusionConfig:
    """Small enough to be built in milliseconds; a width of 8 gives attention two numbers a head."""
    text = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    image = SmallCnnConfig(channels=(8, 16))
    values = {"text_width": 16, "image_width": 16, "width": 8, "num_labels": 3, **changes}
    return FusionConfig(text_config=text, image_config=image, fusion=fusion, **values)


def tiny_model(fusion: str = "attention", **changes: object) -> FusionModel:
    """With weights large enough that logits differ visibly."""
    torch.manual_seed(11)
    model = FusionModel(tiny_config(fusion, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("head", "absent", "text_encoder", "fusion.gate")):
                parameter.normal_(std=0.5)
    return model


@pytest.fixture
def inputs() -> Inputs:
    """Three pairs; the second text is shorter."""
    return {
        "input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0], [2, 9, 10, 11, 3]]),
        "attention_mask": torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1] * 5]),
        "pixel_values": torch.randn(3, 3, 32, 32),
    }


def altered(inputs: Inputs, modality: str, row: int) -> Inputs:
    """The same pairs with another text or picture in one row."""
    changed = {name: value.clone() for name, value in inputs.items()}
    if modality == "text":
        changed["input_ids"][row] = torch.tensor([2, 15, 16, 17, 3])
        changed["attention_mask"][row] = 1
    else:
        changed["pixel_values"][row] += 3.0
    return changed


@torch.no_grad()
@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_absent_half_never_leaks(fusion: str, modality: str, inputs: Inputs) -> None:
    model, other = tiny_model(fusion), altered(inputs, modality, row=1)
    present = torch.tensor([[True, True], [modality != "text", modality != "image"], [True, True]])

    hidden = model(**inputs, present=present).logits
    still_hidden = model(**other, present=present).logits
    shown = model(**inputs).logits
    shown_other = model(**other).logits

    assert torch.equal(hidden, still_hidden)
    # The very same change is seen where that half is there, so the test above could have failed.
    reads = modality in FUSIONS[fusion].reads
    assert torch.equal(shown[1], shown_other[1]) is not reads


@torch.no_grad()
@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("fusion", [name for name in FUSIONS if not FUSIONS[name].image_words])
def test_an_absent_half_never_leaks_from_given_encodings(
    fusion: str, modality: str, inputs: Inputs
) -> None:
    """Modality dropout hides halves whose features stand ready in the cache."""
    model, other = tiny_model(fusion), altered(inputs, modality, row=1)
    present = torch.tensor([[True, True], [modality != "text", modality != "image"], [True, True]])

    hidden = model(encodings=model.encode(**inputs), present=present).logits
    still_hidden = model(encodings=model.encode(**other), present=present).logits

    assert torch.equal(hidden, still_hidden)
    torch.testing.assert_close(hidden, model(**inputs, present=present).logits)


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_pair_gets_the_same_logits_alone_and_padded_beside_others(
    fusion: str, inputs: Inputs
) -> None:
    model = tiny_model(fusion)
    together = model(**inputs).logits

    alone = model(
        input_ids=inputs["input_ids"][1:2, :3],
        attention_mask=inputs["attention_mask"][1:2, :3],
        pixel_values=inputs["pixel_values"][1:2],
    ).logits

    torch.testing.assert_close(alone, together[1:2])


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_pair_without_a_half_gets_the_same_logits_alone_and_beside_others(
    fusion: str, inputs: Inputs
) -> None:
    model = tiny_model(fusion)
    present = torch.tensor([[True, True], [False, True], [True, False]])
    together = model(**inputs, present=present).logits

    for row in range(3):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        alone = model(**one, present=present[row : row + 1]).logits
        torch.testing.assert_close(alone, together[row : row + 1])


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_present_everywhere_is_the_same_as_not_saying_so(fusion: str, inputs: Inputs) -> None:
    model = tiny_model(fusion)
    everywhere = torch.ones(3, 2, dtype=torch.bool)

    assert torch.equal(model(**inputs, present=everywhere).logits, model(**inputs).logits)


@pytest.mark.parametrize("absent", ["text", "image"])
def test_an_absent_half_is_a_learnt_vector_and_its_encoder_does_not_run(
    absent: str, inputs: Inputs
) -> None:
    model = tiny_model("attention")
    read: list[int] = []
    encoder = model.text_encoder if absent == "text" else model.image_encoder
    encoder.register_forward_pre_hook(lambda _, args: read.append(len(args[0])))
    present = torch.tensor([[True, True], [absent != "text", absent != "image"], [True, True]])

    model(**inputs, present=present).logits.sum().backward()

    assert read == [2]  # the two rows that are there
    assert model.absent[absent].grad.abs().sum() > 0
    assert not model.absent[({"text", "image"} - {absent}).pop()].grad.abs().sum()


@torch.no_grad()
def test_the_absent_vector_reaches_the_fusion_whole_and_unmixed(inputs: Inputs) -> None:
    model = tiny_model("attention")
    seen: list[Encoding] = []
    model.fusion.register_forward_pre_hook(lambda _, args: seen.extend(args))
    present = torch.tensor([[True, True], [False, True], [True, True]])

    model(**inputs, present=present)

    text = seen[0]
    assert torch.equal(text.pooled[1], model.absent["text"])
    assert torch.equal(text.tokens[1][text.mask[1]], model.absent["text"].unsqueeze(0))
    assert text.mask.sum(dim=1).tolist() == [5, 1, 5]


def test_the_loss_is_the_mean_cross_entropy_of_the_rows(inputs: Inputs) -> None:
    model = tiny_model()
    labels = torch.tensor([2, 0, 1])

    output = model(**inputs, labels=labels)

    by_hand = -output.logits.log_softmax(dim=1)[[0, 1, 2], labels].sum() / 3
    torch.testing.assert_close(output.loss, by_hand)
    assert model(**inputs).loss is None


@torch.no_grad()
def test_the_forward_is_encoders_projection_fusion_and_head_in_this_order(inputs: Inputs) -> None:
    model = tiny_model("concat")
    model.projections["text"].standardise_pooled.mean.fill_(0.5)
    model.projections["image"].standardise_pooled.scale.fill_(2.0)
    text = model.text_encoder(inputs["input_ids"], inputs["attention_mask"]).pooled
    image = model.image_encoder(inputs["pixel_values"]).pooled

    into_text, into_image = (model.projections[m].into for m in ("text", "image"))
    halves = [F.gelu(into_text(text - 0.5)), F.gelu(into_image(image * 2))]
    expected = model.head.out(model.fusion.mix(torch.cat(halves, dim=1)))

    torch.testing.assert_close(model(**inputs).logits, expected)


def test_standardise_brings_each_number_to_mean_zero_and_deviation_one() -> None:
    standardise = Standardise(2)
    assert standardise(torch.tensor([[3.0, 4.0]])).tolist() == [[3, 4]]

    standardise.fit(torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]]))

    # Deviations 2 and 0; a number that never varies is not blown up beyond a thousand.
    values = standardise(torch.tensor([[5.0, 10.0], [1.0, 10.5]]))
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.0], [-1.0, 500.0]]))


def test_a_projection_is_measured_on_real_tokens_only() -> None:
    projection = Projection(1, 4)
    encodings = [
        Encoding(
            pooled=torch.tensor([[1.0], [3.0]]),
            tokens=torch.tensor([[[2.0], [4.0]], [[6.0], [99.0]]]),
            mask=torch.tensor([[True, True], [True, False]]),
        )
    ]

    projection.fit(encodings)

    assert projection.standardise_pooled.mean.tolist() == [2]
    assert projection.standardise_tokens.mean.tolist() == [4]  # of 2, 4 and 6
    assert projection.standardise_tokens.scale.tolist() == [0.5]


def test_fresh_logits_are_nearly_equal_so_that_the_loss_starts_at_that_of_guessing(
    inputs: Inputs,
) -> None:
    torch.manual_seed(0)
    model = FusionModel(tiny_config()).eval()

    loss = model(**inputs, labels=torch.tensor([0, 1, 2])).loss

    assert float(loss.detach()) == pytest.approx(1.0986, abs=0.1)  # ln 3


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_saved_and_loaded_again_the_logits_are_equal_to_the_bit(
    fusion: str, inputs: Inputs, tmp_path: Path
) -> None:
    names = ["cat", "dog", "été"]
    numbers = {name: i for i, name in enumerate(names)}
    model = tiny_model(fusion, id2label=dict(enumerate(names)), label2id=numbers)
    for projection in model.projections.values():  # buffers travel too
        projection.standardise_pooled.mean.normal_()
        projection.standardise_tokens.scale.uniform_(0.5, 2)
    present = torch.tensor([[True, True], [False, True], [True, False]])
    model.save_pretrained(tmp_path)

    loaded = FusionModel.from_pretrained(tmp_path)

    assert not loaded.training
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    inputs["present"] = present
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    assert loaded.config.id2label == {0: "cat", 1: "dog", 2: "été"}
    assert loaded.config.label2id == {"cat": 0, "dog": 1, "été": 2}
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())


@pytest.mark.parametrize(
    ("fusion", "built"), [("text-only", {"text"}), ("image-only", {"image"}), ("concat", BOTH)]
)
def test_an_encoder_that_the_fusion_does_not_read_is_not_even_built(
    fusion: str, built: set[str]
) -> None:
    model = tiny_model(fusion)

    encoders = {"text": model.text_encoder, "image": model.image_encoder}
    assert {modality for modality, encoder in encoders.items() if encoder is not None} == built
    assert set(model.projections) == built


def test_a_text_only_model_needs_no_image_configuration_at_all(
    inputs: Inputs, tmp_path: Path
) -> None:
    config = tiny_config("text-only")
    config.image_config = None
    model = FusionModel(config).eval()
    model.save_pretrained(tmp_path)

    loaded = FusionModel.from_pretrained(tmp_path)

    texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(loaded(**texts).logits, model(**texts).logits)


@torch.no_grad()
def test_a_saved_model_needs_its_encoders_folder_no_more(
    tiny_vit: Path, inputs: Inputs, tmp_path: Path
) -> None:
    copied = tmp_path / "encoder"
    shutil.copytree(tiny_vit, copied)
    config = tiny_config("concat")
    config.image_config = AutoConfig.from_pretrained(copied)
    model = FusionModel(config).eval()
    model.save_pretrained(tmp_path / "model")
    shutil.rmtree(copied)

    loaded = FusionModel.from_pretrained(tmp_path / "model")

    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@torch.no_grad()
def test_torchvision_encoders_travel_inside_the_checkpoint_too(
    inputs: Inputs, tmp_path: Path
) -> None:
    from mmapp.models.torchvision_trunk import TorchvisionConfig

    config = tiny_config("image-only", image_width=512)
    config.image_config = TorchvisionConfig(name="squeezenet1_1")
    model = FusionModel(config).eval()
    model.save_pretrained(tmp_path)

    loaded = FusionModel.from_pretrained(tmp_path)

    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_transformers_auto_classes_know_the_model(tmp_path: Path) -> None:
    tiny_model("concat").save_pretrained(tmp_path)

    assert type(AutoConfig.from_pretrained(tmp_path)) is FusionConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is FusionModel


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_model_is_built_on_the_meta_device_without_a_single_number(fusion: str) -> None:
    with torch.device("meta"):
        model = FusionModel(tiny_config(fusion))

    tensors = [*model.parameters(), *model.buffers()]
    assert {t.device.type for t in tensors} == {"meta"}


@torch.no_grad()
def test_what_a_checkpoint_lacks_is_drawn_and_not_left_as_it_was_in_memory(tmp_path: Path) -> None:
    """transformers builds on the meta device; weights it does not find come from _init_weights."""
    model = tiny_model("attention")
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    fresh = ("head.out.", "absent.", "fusion.", "projections.text.standardise_pooled.")
    kept = {name: t for name, t in state.items() if not name.startswith(fresh)}
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, state_dict=kept)

    loaded = FusionModel.from_pretrained(tmp_path)

    assert loaded.head.out.bias.tolist() == [0, 0, 0]
    assert 0 < loaded.head.out.weight.std() < 0.1
    assert 0 < loaded.absent["text"].std() < 0.1
    assert loaded.fusion.words_gather.norm.weight.tolist() == [1] * 8
    assert loaded.projections["text"].standardise_pooled.scale.tolist() == [1] * 16
    assert loaded.projections["text"].standardise_pooled.mean.tolist() == [0] * 16
    assert torch.equal(loaded.image_encoder.backbone.blocks[0][0].weight,
                       model.image_encoder.backbone.blocks[0][0].weight)  # fmt: skip


@torch.no_grad()
def test_what_begins_in_its_own_way_does_so_in_a_model_and_where_a_checkpoint_lacks_it(
    inputs: Inputs, tmp_path: Path
) -> None:
    """A gate begins shut and weights equal, though the model draws every linear layer at random."""
    torch.manual_seed(0)
    gated, weighted = (FusionModel(tiny_config(name)).eval() for name in ("gated", "weighted"))
    text_only = FusionModel(tiny_config("text-only")).eval()
    text_only.load_state_dict(gated.state_dict(), strict=False)
    assert torch.equal(gated(**inputs).logits, text_only(**inputs).logits)
    assert gated.fusion.value.weight.abs().min() > 0

    for model in (gated, weighted):
        folder = tmp_path / model.config.fusion
        state = {n: t for n, t in model.state_dict().items() if not n.startswith("fusion.")}
        model.save_pretrained(folder, state_dict=state)
        loaded = FusionModel.from_pretrained(folder).fusion
        begun = loaded.gate.weight if model is gated else loaded.balance
        assert begun.count_nonzero() == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fusion": "glue"}, "no fusion 'glue'. Expected one of concat, sum, weighted"),
        ({"task": "guess"}, "no task 'guess'. Expected one of classify, multilabel, match"),
    ],
)
def test_an_unknown_fusion_or_task_is_answered_with_the_choices(
    change: dict[str, str], sentence: str
) -> None:
    config = tiny_config()
    for name, value in change.items():
        setattr(config, name, value)

    with pytest.raises(SettingsError, match=sentence):
        FusionModel(config)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stays_in_evaluation_mode_while_the_rest_trains(frozen: bool) -> None:
    model = tiny_model("concat")
    model.text_encoder.requires_grad_(not frozen)

    model.train()

    assert model.text_encoder.training is not frozen
    assert all(m.training is not frozen for m in model.text_encoder.modules())
    assert model.image_encoder.training
    assert model.head.training


def test_weights_that_are_only_a_pickle_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("concat")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))

    with pytest.raises(OSError, match=r"model\.safetensors"):
        FusionModel.from_pretrained(tmp_path)


def test_the_configuration_survives_its_file(tmp_path: Path) -> None:
    config = tiny_config(
        "bilinear",
        task="match",
        text_encoder="bert-base-uncased",
        data_settings={"seed": 3, "text_column": None},
        data_fingerprint="abc",
        fixed_batch_norm=True,
    )
    config.save_pretrained(tmp_path)

    loaded = FusionConfig.from_pretrained(tmp_path)

    assert loaded.to_dict() == config.to_dict()
    assert type(loaded.image_config) is SmallCnnConfig
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == 1


def test_a_gradient_reaches_every_weight_that_the_fusion_reads(inputs: Inputs) -> None:
    model = tiny_model("attention")
    present = torch.tensor([[True, True], [False, True], [True, False]])

    model(**inputs, present=present, labels=torch.tensor([0, 1, 2])).loss.backward()

    unused = {
        "text_encoder.backbone.pooler.dense.weight",
        "text_encoder.backbone.pooler.dense.bias",
    }
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == unused
