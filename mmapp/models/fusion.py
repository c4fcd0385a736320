"""One class a fusion, one signature, one FUSIONS table. Knows no encoder, task or device.

Shapes: B pairs, T word pieces, P image positions, D the shared width.
Every fusion takes the text's and the image's Encoding, both D wide, and gives one Encoding: `pooled`
[B,D] is the fused whole, `tokens` [B,T,D] are the fused words with the text's mask. An absent half
arrives as a learnt vector with one real token; nothing of the original is left in it.

To add one: write the class, add its line to FUSIONS and a row to tests/models/test_fusion.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmapp.models.encoders import Encoding, masked_mean


class Fusion(nn.Module):
    """Base of all fusions.

    Attributes:
        reads: the modalities it uses; encoders of others are not even built.
        needs_tokens: it looks at `tokens`, not only at `pooled`.
    """

    reads: tuple[str, ...] = ("text", "image")
    needs_tokens = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        raise NotImplementedError


class TextOnly(Fusion):
    """Baseline: the text as it is."""

    reads = ("text",)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        return text


class ImageOnly(Fusion):
    """Baseline: the image as it is; every word gets the whole image."""

    reads = ("image",)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        return Encoding(image.pooled, image.pooled.unsqueeze(1).expand_as(text.tokens), text.mask)


class Concat(Fusion):
    """[text; image] through one linear layer: a sum of what each half says.

    Linear on purpose. A sum cannot say "the two agree", so this fusion cannot learn `match`.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        pooled = self.mix(torch.cat([text.pooled, image.pooled], dim=-1))
        beside = image.pooled.unsqueeze(1).expand_as(text.tokens)
        tokens = self.mix(torch.cat([text.tokens, beside], dim=-1))
        return Encoding(pooled, tokens, text.mask)


class Bilinear(Fusion):
    """Low-rank outer product: project both halves, multiply element by element, project back.

    With biases in both projections the product also holds each half alone and a constant.
    Kim et al., "Hadamard Product for Low-rank Bilinear Pooling", ICLR 2017.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.from_text = nn.Linear(width, width)
        self.from_image = nn.Linear(width, width)
        self.back = nn.Linear(width, width)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        seen = self.from_image(image.pooled)
        pooled = self.back(self.from_text(text.pooled) * seen)
        tokens = self.back(self.from_text(text.tokens) * seen.unsqueeze(1))
        return Encoding(pooled, tokens, text.mask)


class Attention(Fusion):
    """Co-attention: words gather image positions, image positions gather words.

    With A = softmax(QKᵀ/√D) in each direction. The whole of each side stands as a token before its
    parts; what the whole gathered and the mean of what the parts gathered are added, and the two
    sides are mixed linearly.
    Lu et al., "ViLBERT", NeurIPS 2019.
    """

    needs_tokens = True
    heads = 4

    def __init__(self, width: int) -> None:
        super().__init__(width)
        heads = self.heads if width % self.heads == 0 else 1
        self.words_gather = Gathering(width, heads)
        self.image_gathers = Gathering(width, heads)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        words, words_mask = _whole_first(text)  # [B,1+T,D]
        places, places_mask = _whole_first(image)  # [B,1+P,D]
        told = self.words_gather(words, places, places_mask)
        seen = _summed_up(self.image_gathers(places, words, words_mask), image.mask)
        pooled = self.mix(torch.cat([_summed_up(told, text.mask), seen], dim=-1))
        beside = seen.unsqueeze(1).expand_as(text.tokens)
        tokens = self.mix(torch.cat([told[:, 1:], beside], dim=-1))
        return Encoding(pooled, tokens, text.mask)


def _whole_first(encoding: Encoding) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask with the pooled whole as token 0."""
    tokens = torch.cat([encoding.pooled.unsqueeze(1), encoding.tokens], dim=1)
    return tokens, F.pad(encoding.mask, (1, 0), value=True)


def _summed_up(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The whole plus the mean of its parts: tokens [B,1+T,D], mask [B,T] -> [B,D]."""
    return tokens[:, 0] + masked_mean(tokens[:, 1:], mask)


class Gathering(nn.Module):
    """One direction of co-attention: every token gathers what it needs of the other side, and is
    compared with it, side by side and multiplied (Seo et al., "BiDAF", ICLR 2017).

    What was gathered is an average and varies little; the norm brings it back to the size of what
    it is compared with. Without it, `sample:digits` stays at chance for several epochs.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend = CrossAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.compare = nn.Linear(3 * width, width)

    def forward(
        self, asking: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
    ) -> torch.Tensor:
        """asking [B,T,D], other [B,P,D], other_mask [B,P] -> [B,T,D]."""
        gathered = self.norm(self.attend(asking, other, other_mask))
        return F.gelu(self.compare(torch.cat([asking, gathered, asking * gathered], dim=-1)))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another. Vaswani et al., NeurIPS 2017."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, asking: torch.Tensor, other: torch.Tensor, other_mask: torch.Tensor
    ) -> torch.Tensor:
        """asking [B,T,D], other [B,P,D], other_mask [B,P] -> [B,T,D]."""
        split = (len(asking), -1, self.heads, asking.shape[-1] // self.heads)
        query = self.query(asking).view(split).transpose(1, 2)  # [B,heads,T,D/heads]
        key = self.key(other).view(split).transpose(1, 2)
        value = self.value(other).view(split).transpose(1, 2)
        seen = other_mask[:, None, None, :]  # no token attends to padding
        gathered = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.out(gathered.transpose(1, 2).flatten(2))


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "bilinear": Bilinear,
    "attention": Attention,
    "text-only": TextOnly,
    "image-only": ImageOnly,
}
