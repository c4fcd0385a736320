"""One class a fusion, one signature, one FUSIONS table. Knows no encoder, task or device.

Shapes: B pairs, T word pieces, P image positions, D the shared width, E that of word embeddings.
Every fusion takes the text's and the image's Encoding, both D wide, and gives one Encoding: `pooled`
[B,D] is the fused whole, `tokens` [B,T,D] are the fused words with the text's mask. An absent half
arrives as a learnt vector with one real token; nothing of the original is left in it.

To add one: write the class, add its line to FUSIONS and a row to tests/models/test_fusion.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from mmapp.models.encoders import Encoding, masked_mean
from mmapp.models.fusion_parts import Gathering, ImageWords, OwnStart, ShutLinear


class Fusion(nn.Module):
    """Base of all fusions.

    Attributes:
        reads: the modalities it uses; encoders of others are not even built.
        needs_tokens: it looks at `tokens`, not only at `pooled`.
        image_words: into how many words it makes the image, for the text encoder to read them with
            the text's own; 0 where the encoders do not meet.
    """

    reads: tuple[str, ...] = ("text", "image")
    needs_tokens = False
    image_words = 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        raise NotImplementedError


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


class Sum(Fusion):
    """text + image, element by element; the projections alone decide what is added to what.

    "Additive" in Kiela et al., "Efficient Large-Scale Multi-Modal Classification", AAAI 2018.
    """

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        return Encoding(
            text.pooled + image.pooled, text.tokens + image.pooled.unsqueeze(1), text.mask
        )


class Weighted(Fusion, OwnStart):
    """p text + (1 - p) image: one learnt weight a modality, the same for every pair.

    The weights are the softmax of two numbers that start equal.
    Peters et al., "Deep Contextualized Word Representations" (scalar mix), NAACL 2018.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.balance = nn.Parameter(torch.zeros(2))  # (text, image)

    def reset_parameters(self) -> None:
        init.zeros_(self.balance)

    def weights(self) -> dict[str, float]:
        """The weight of each modality, for showing; they sum to one."""
        text, image = self.balance.detach().float().softmax(dim=0).tolist()
        return {"text": text, "image": image}

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        of_text, of_image = self.balance.softmax(dim=0)
        seen = of_image * image.pooled
        return Encoding(
            of_text * text.pooled + seen, of_text * text.tokens + seen.unsqueeze(1), text.mask
        )


class Gated(Fusion):
    """text + tanh(G[text; image]) * V(image), with G zero at first: the text alone, exactly, until
    training opens the gate. What the gate lets in depends on both halves, so it can learn `match`.

    Gates over modalities: Arevalo et al., "Gated Multimodal Units", ICLR workshop 2017. Opening from
    zero by a tanh: Alayrac et al., "Flamingo", NeurIPS 2022.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate = ShutLinear(2 * width, width)
        self.value = nn.Linear(width, width)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        seen = self.value(image.pooled)
        pooled = text.pooled + self._opened(text.pooled, image.pooled) * seen
        beside = image.pooled.unsqueeze(1).expand_as(text.tokens)
        tokens = text.tokens + self._opened(text.tokens, beside) * seen.unsqueeze(1)
        return Encoding(pooled, tokens, text.mask)

    def _opened(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.gate(torch.cat([text, image], dim=-1)).tanh()


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


class Early(Fusion):
    """The bitransformer: the image becomes words that the text encoder reads after the text's own.

    The only fusion in which the text encoder itself sees the image, so it has done its work before
    `forward`: FusionModel hands the text encoder what `as_words` makes of the image, [B,9,E], and
    `text` comes here having read it, `pooled` over the words of both.
    Kiela et al., "Supervised Multimodal Bitransformers for Classifying Images and Text", 2019.

    Args:
        width: D.
        word_width: E; D when not given.
    """

    needs_tokens = True
    image_words = 9

    def __init__(self, width: int, word_width: int | None = None) -> None:
        super().__init__(width)
        self.as_words = ImageWords(width, word_width or width, math.isqrt(self.image_words))

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        return text


class Late(Fusion):
    """(A text + B image) / 2: the average of two heads' logits.

    The head H is linear, so H((A text + B image) / 2) = (H(A text) + H(B image)) / 2: the mean of what
    the head H∘A says of the text alone and H∘B of the image alone. With no more labels than D, any
    two linear heads can be written so. Each half votes by itself: it cannot learn `match`.
    Snoek et al., "Early versus Late Fusion in Semantic Video Analysis", ACM Multimedia 2005.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.of_text = nn.Linear(width, width)
        self.of_image = nn.Linear(width, width)

    def forward(self, text: Encoding, image: Encoding) -> Encoding:
        vote = self.of_image(image.pooled)
        pooled = (self.of_text(text.pooled) + vote) / 2
        tokens = (self.of_text(text.tokens) + vote.unsqueeze(1)) / 2
        return Encoding(pooled, tokens, text.mask)


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


FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "sum": Sum,
    "weighted": Weighted,
    "gated": Gated,
    "bilinear": Bilinear,
    "attention": Attention,
    "early": Early,
    "late": Late,
    "text-only": TextOnly,
    "image-only": ImageOnly,
}
