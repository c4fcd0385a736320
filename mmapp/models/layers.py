"""How far up in its encoder a weight stands. Knows modules by their make, no encoder by its name."""

from __future__ import annotations

from torch import nn

# A list of one or two entries is a wrapper when one list inside it holds this share of its weights:
# VGG's trunk is a list of one, RegNet's a list of stem and stages.
MOST = 0.9

Layer = list[nn.Parameter]


def layers_of(encoder: nn.Module) -> list[Layer]:
    """The weights of each layer from the input up; empty when the encoder has no list of layers.

    The layers are the entries of the list (or sequence) of modules that holds the most weights, and
    of several the outermost: the blocks of a BERT or ViT, the stages of a ResNet or ConvNeXt. Norms
    that stand in the list by themselves belong to the layer before them.
    """
    layers: list[Layer] = []
    for entry in _trunk(encoder):
        weights = list(entry.parameters())
        if any(weight.ndim > 1 for weight in weights):
            layers.append(weights)
        elif layers:
            layers[-1].extend(weights)
    return layers


def depths(encoder: nn.Module) -> dict[str, int]:
    """Layer of every weight by name: 0 for embeddings and whatever else comes before the layers, then
    1, 2, ...; what comes after the last layer counts as part of it.

    An encoder without a list of layers has two levels, embeddings and the rest.
    """
    layers = layers_of(encoder)
    place = {id(weight): n for n, layer in enumerate(layers, start=1) for weight in layer}
    # Embeddings of positions are declared after the layers in some encoders (MPNet, DeBERTa).
    tables = [module for module in encoder.modules() if isinstance(module, nn.Embedding)]
    embeddings = {id(weight) for table in tables for weight in table.parameters()}
    found = {}
    beside = 0 if layers else 1
    for name, weight in encoder.named_parameters():
        if id(weight) in place:
            found[name], beside = place[id(weight)], len(layers)
        else:
            found[name] = 0 if id(weight) in embeddings else beside
    return found


def _trunk(encoder: nn.Module) -> list[nn.Module]:
    """The entries of the list that holds the layers."""
    lists = _lists(encoder)
    if not lists:
        return []
    trunk = max(lists, key=_size)
    while sum(_size(entry) > 0 for entry in trunk) < 3:
        within = [inner for inner in _lists(trunk)[1:] if _size(inner) > MOST * _size(trunk)]
        if not within:
            break
        trunk = within[0]
    return list(trunk)


def _lists(module: nn.Module) -> list[nn.ModuleList | nn.Sequential]:
    """All lists of modules with weights in them, outer ones before those inside them."""
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    return [some for some in lists if _size(some)]


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
