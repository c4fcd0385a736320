"""A frozen encoder that remembers: what it was asked in an earlier run is read, not computed.

Batches are remembered whole. How an encoder rounds depends on the company in a batch, so
what is read back is to the bit what would be computed.

Shapes: n texts or pictures of a batch, T tokens of one, D the encoder's own width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
import torchvision
import transformers
from torch import nn

from mmapp.device import autocast, rows_at_once
from mmapp.models.encoders import Encoding
from mmapp.training.encoder_inputs import Inputs
from mmapp.training.kept_arrays import KeptArrays

# To be raised when a line of ours changes what an encoder says of the same inputs.
FORMAT = 1

VERSIONS = {lib.__name__: lib.__version__ for lib in (torch, torchvision, transformers, PIL)}


class Features(NamedTuple):
    """Encodings as they are kept.

    Tokens are kept in half precision: they are most of the bytes, and a layer norm reads them first.

    Attributes:
        pooled: [n,D] float32.
        tokens: [ΣT,D] float16, end to end and without padding; None where no fusion asks for them.
    """

    pooled: np.ndarray
    tokens: np.ndarray | None = None

    @classmethod
    def of(cls, encoding: Encoding, tokens: bool) -> Features:
        pooled = encoding.pooled.float().cpu().numpy()
        return cls(pooled, encoding.tokens[encoding.mask].half().cpu().numpy() if tokens else None)

    @classmethod
    def joined(cls, several: Sequence[Features]) -> Features:
        """Several, one after the other, as one."""
        parts = zip(*several, strict=True)
        return cls(*(np.concatenate(part) for part in parts if part[0] is not None))


class RememberingEncoder:
    """Asks the folder first and the encoder then.

    Args:
        encoder: frozen, in evaluation mode, on `device`.
        inputs: what it may be asked about.
        kept: what was computed before, by whomever.
        tokens: are tokens wanted, or the pooled features alone?
        device: where the encoder runs.
        precision: "fp32", "bf16" or "fp16" while it does.

    Attributes:
        found: texts or pictures that were read and not computed.
    """

    def __init__(
        self,
        encoder: nn.Module,
        inputs: Inputs,
        kept: KeptArrays,
        *,
        tokens: bool,
        device: torch.device,
        precision: str,
    ) -> None:
        self.encoder = encoder
        self.inputs = inputs
        self.kept = kept
        self.parts = ("pooled", "tokens") if tokens else ("pooled",)
        self.device = device
        self.precision = precision
        self.found = 0
        how = {**inputs.recipe, **VERSIONS, "device": device.type, "precision": precision}
        self._identity = fingerprint(encoder, {**how, "format": FORMAT})

    def features(self, rows: Sequence[int]) -> Features:
        """Features of the inputs numbered `rows`."""
        keys = b"".join(self.inputs.keys[i] for i in rows)
        name = hashlib.blake2b(self._identity + keys, digest_size=20).hexdigest()
        read = [self.kept.read(f"{name}-{part}") for part in self.parts]
        there = [array for array in read if array is not None]
        if len(there) == len(self.parts):
            self.found += len(rows)
            return Features(*there)
        features = self._compute(rows)
        for part in self.parts:
            self.kept.write(f"{name}-{part}", getattr(features, part))
        return features

    @torch.inference_mode()
    def _compute(self, rows: Sequence[int]) -> Features:
        size = rows_at_once(self.device, self.inputs.side, len(rows))
        found = []
        for start in range(0, len(rows), size):
            some = self.inputs.batch(rows[start : start + size])
            with autocast(self.device, self.precision):
                encoding = self.encoder(*(value.to(self.device) for value in some))
            found.append(Features.of(encoding, "tokens" in self.parts))
        return Features.joined(found)


def fingerprint(encoder: Any, how: dict[str, Any]) -> bytes:
    """Digest of an encoder's classes, configuration and weights, and of how it is used."""
    config = encoder.backbone.config
    said = {
        "classes": [type(encoder).__qualname__, type(encoder.backbone).__qualname__],
        "config": {k: v for k, v in config.to_dict().items() if k != "_name_or_path"},
        "attention": getattr(config, "_attn_implementation", None),
        "how": how,
    }
    digest = hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=20)
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
