"""torchvision's classifiers without their classifier, in the clothes of a transformers model."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import torch
import torchvision
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from mmapp.errors import EncoderError
from mmapp.sources import first_line

# In torchvision the first of these children ends the part that sees the image as a map.
ENDS = ("avgpool", "flatten", "classifier", "fc", "head", "heads")


class TorchvisionConfig(PreTrainedConfig):
    """`name` is a classifier's name in torchvision's own registry, such as "resnet50"."""

    model_type = "mmapp_torchvision"
    name: str = "resnet50"


class TorchvisionTrunk(PreTrainedModel):
    """The convolutional (or transformer) trunk of a torchvision classifier.

    Parameter names are torchvision's own behind "trunk.".
    """

    config_class = TorchvisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: TorchvisionConfig) -> None:
        super().__init__(config)
        self.trunk = _trunk(classifier(config.name))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep torchvision's own initialisation."""

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        """[B,3,S,S] -> last_hidden_state: a map [B,C,H,W], or tokens [B,1+P,C] of a ViT."""
        return BaseModelOutput(last_hidden_state=self.trunk(pixel_values))


class VisionTransformerTrunk(nn.Module):
    """torchvision's VisionTransformer up to its class token and patches."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.encoder = model.encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        patches = self.conv_proj(pixel_values).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(patches), -1, -1)
        return self.encoder(torch.cat([first, patches], dim=1))


def classifier(name: str) -> nn.Module:
    """A torchvision classifier with fresh weights. Raises EncoderError for an unknown name."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise EncoderError(
            f"torchvision has no classifier {name!r}. Expected one of: {', '.join(known)}."
        )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    if not name.startswith("regnet"):
        return torchvision.models.get_model(name, weights=None, **options)
    # RegNet computes its widths with tensors, which hold no values on transformers' meta device.
    with torch.device("cpu"):
        return torchvision.models.get_model(name, weights=None)


def _trunk(model: nn.Module) -> nn.Module:
    if isinstance(model, torchvision.models.VisionTransformer):
        return VisionTransformerTrunk(model)
    if isinstance(model, torchvision.models.MaxVit):
        return nn.Sequential(OrderedDict(stem=model.stem, blocks=nn.Sequential(*model.blocks)))
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    if isinstance(model, (torchvision.models.GoogLeNet, torchvision.models.Inception3)):
        kept["input"] = InceptionInput()
    for child_name, child in model.named_children():
        if child_name in ENDS:
            break
        kept[child_name] = child
    if isinstance(model, torchvision.models.DenseNet):
        kept["relu"] = nn.ReLU()  # a function in torchvision's forward, no child
    return nn.Sequential(kept)


class InceptionInput(nn.Module):
    """ImageNet's normalisation -> that of GoogLeNet and Inception, which were trained with 0.5."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        mean = pixel_values.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = pixel_values.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        return (pixel_values * std + mean - 0.5) / 0.5


def pretrained_trunk(name: str) -> TorchvisionTrunk:
    """The trunk with torchvision's default weights, from TORCH_HOME or its download.

    Raises:
        EncoderError: unknown name, or the weights are neither on disk nor reachable.
    """
    trunk = TorchvisionTrunk(TorchvisionConfig(name=name))
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        # weights_only: the file is read as tensors, never as Python objects.
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        raise EncoderError(
            f"The weights of torchvision:{name} are not in the local cache and could not be fetched: "
            f"{first_line(error)} Connect once, or choose a local folder or a scratch encoder."
        ) from error
    # DenseNet's files are older than its code and write norm.1 for norm1.
    state = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): v for key, v in state.items()}
    missing = trunk.trunk.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise EncoderError(f"The weight file of torchvision:{name} lacks {', '.join(missing[:3])}.")
    return trunk


AutoConfig.register(TorchvisionConfig.model_type, TorchvisionConfig)
AutoModel.register(TorchvisionConfig, TorchvisionTrunk)
