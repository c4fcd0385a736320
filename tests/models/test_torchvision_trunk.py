"""torchvision's trunks: the classifier's own numbers, from weights read as tensors only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from mmapp.errors import EncoderError
from mmapp.models.encoders import ImageEncoder, image_config, pretrained_backbone
from mmapp.models.torchvision_trunk import (
    TorchvisionConfig,
    TorchvisionTrunk,
    _trunk,
    classifier,
    pretrained_trunk,
)
from mmapp.sources import Source

Put = Callable[[str, object], Path]


@torch.no_grad()
def test_the_trunk_from_torch_home_equals_the_classifier_it_was_cut_from(torch_home: Path) -> None:
    original = torchvision.models.mobilenet_v3_small(weights="DEFAULT").eval()
    pixels = torch.randn(2, 3, 64, 64)
    seen = original.features(pixels)
    source = Source.parse("torchvision:mobilenet_v3_small")

    config = image_config(source)
    encoding = ImageEncoder(config, True, pretrained_backbone(source, config, "image")).eval()(
        pixels
    )

    assert torch.equal(encoding.tokens, seen.flatten(2).transpose(1, 2))
    torch.testing.assert_close(encoding.pooled, original.avgpool(seen).flatten(1))


# The rest of each family's forward, from the trunk's output to the logits, as torchvision has it.
RESTS: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    "squeezenet1_1": lambda model, seen: model.classifier(seen).flatten(1),
    "mobilenet_v3_small": lambda model, seen: model.classifier(model.avgpool(seen).flatten(1)),
    "shufflenet_v2_x0_5": lambda model, seen: model.fc(seen.mean(dim=(2, 3))),
    "mnasnet0_5": lambda model, seen: model.classifier(seen.mean(dim=(2, 3))),
    "regnet_y_400mf": lambda model, seen: model.fc(model.avgpool(seen).flatten(1)),
    "resnet18": lambda model, seen: model.fc(model.avgpool(seen).flatten(1)),
    "googlenet": lambda model, seen: model.fc(model.avgpool(seen).flatten(1)),
    "swin_t": lambda model, seen: model.head(model.avgpool(seen).flatten(1)),
}


@torch.no_grad()
@pytest.mark.parametrize("name", RESTS)
def test_a_trunk_ends_where_the_classifier_begins(name: str) -> None:
    model = classifier(name).eval()
    pixels = torch.randn(1, 3, 64, 64)

    seen = _trunk(model)(pixels)

    assert seen.ndim == 4
    torch.testing.assert_close(RESTS[name](model, seen), model(pixels))


@torch.no_grad()
def test_of_a_vision_transformer_the_first_token_is_what_its_head_reads() -> None:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    ).eval()
    nn.init.normal_(
        model.heads.head.weight
    )  # torchvision starts it at zero, which hides everything
    pixels = torch.randn(2, 3, 32, 32)

    tokens = _trunk(model)(pixels)

    assert tokens.shape == (2, 1 + 16, 16)
    torch.testing.assert_close(model.heads(tokens[:, 0]), model(pixels))


@pytest.mark.parametrize(
    "name",
    "convnext_tiny densenet121 efficientnet_b0 maxvit_t regnet_y_400mf vgg11 vit_b_16".split(),
)
def test_on_the_meta_device_a_trunk_has_torchvisions_own_parameter_names(name: str) -> None:
    with torch.device("meta"):
        trunk = TorchvisionTrunk(TorchvisionConfig(name=name))
    own = {key.removeprefix("trunk."): t.shape for key, t in trunk.state_dict().items()}
    with torch.device("meta"):
        theirs = {key: t.shape for key, t in classifier(name).state_dict().items()}

    assert own.items() <= theirs.items()
    # What is left behind is the classifier alone.
    left = {key.split(".")[0] for key in theirs.keys() - own.keys()}
    assert left <= {"classifier", "fc", "heads"}


def test_densenets_old_parameter_names_are_understood(put_torchvision_weights: Put) -> None:
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))(\d)")
    put_torchvision_weights("densenet121", {old.sub(r"\1.\2", key): t for key, t in state.items()})

    trunk = pretrained_trunk("densenet121")

    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(trunk.state_dict()[f"trunk.{key}"], state[key])


def test_an_unknown_name_is_answered_with_the_choices() -> None:
    with pytest.raises(
        EncoderError, match=r"^torchvision has no classifier 'resnet51'\. Expected .*resnet50, "
    ):
        pretrained_trunk("resnet51")


def test_detectors_and_segmenters_are_not_taken_for_classifiers() -> None:
    with pytest.raises(EncoderError, match="no classifier 'fcn_resnet50'"):
        classifier("fcn_resnet50")


def test_weights_that_are_neither_on_disk_nor_reachable_get_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)

    with pytest.raises(
        EncoderError,
        match=r"torchvision:squeezenet1_1 are not in the local cache .*no route.* scratch encoder",
    ):
        pretrained_trunk("squeezenet1_1")


def test_a_weight_file_that_lacks_weights_is_refused(put_torchvision_weights: Put) -> None:
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    del state["features.0.weight"]
    put_torchvision_weights("squeezenet1_1", state)

    with pytest.raises(
        EncoderError, match=r"torchvision:squeezenet1_1 lacks features\.0\.weight\."
    ):
        pretrained_trunk("squeezenet1_1")


class Mischief:
    """Unpickled as an object it makes a folder; read as tensors only it is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_weight_file_is_never_run(put_torchvision_weights: Put, tmp_path: Path) -> None:
    put_torchvision_weights("squeezenet1_1", {"features.0.weight": Mischief(tmp_path / "ran")})

    with pytest.raises(EncoderError, match="torchvision:squeezenet1_1"):
        pretrained_trunk("squeezenet1_1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["googlenet", "densenet121"])
def test_what_torchvision_does_in_its_forward_is_not_lost(name: str) -> None:
    """GoogLeNet renormalises its input and DenseNet ends in a ReLU, both outside their children."""
    torch.manual_seed(0)
    trunk = TorchvisionTrunk(TorchvisionConfig(name=name)).eval()
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    whole = torchvision.models.get_model(name, weights=None, **options).eval()
    whole.load_state_dict(trunk.trunk.state_dict(), strict=False)
    if name == "googlenet":
        whole.transform_input = True
    pixels = torch.randn(1, 3, 64, 64)
    seen: list[torch.Tensor] = []
    pooled_by = whole.avgpool if name == "googlenet" else whole.classifier
    pooled_by.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    with torch.no_grad():
        whole(pixels)
        states = trunk(pixels).last_hidden_state

    expected = seen[0]
    found = states if name == "googlenet" else states.mean(dim=(2, 3))
    torch.testing.assert_close(found, expected)
