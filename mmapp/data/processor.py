"""FusionProcessor: texts -> ids, images -> pixels. The only normalisation; saves and loads itself.

The last place that sees a sentence or a picture. Knows no label and no model.

Shapes: B pairs, T word pieces of the longest text in the batch, S side of the image in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import PushToHubMixin, cached_file

from mmapp.data.images import to_rgb
from mmapp.data.vocabulary import learn_wordpiece
from mmapp.errors import CheckpointError, EncoderError
from mmapp.settings import ModelSettings
from mmapp.sources import Source, fetch, first_line

FILE = "preprocessor_config.json"

UNREAD = -1  # in the place of a word's first piece: the model does not see the word

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class FusionProcessor(PushToHubMixin):
    """Turns texts and images into what FusionModel reads.

    Args:
        tokenizer: any tokenizer of transformers.
        image_size: S, the side every image is brought to, in pixels; the whole image is kept and
            its proportions are not.
        image_mean: per channel, of values between 0 and 1.
        image_std: per channel.
        max_length: word pieces kept of a text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        image_mean: Sequence[float] = PLAIN[0],
        image_std: Sequence[float] = PLAIN[1],
        max_length: int = 128,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.max_length = max_length

    def __call__(
        self, texts: Sequence[str | None], images: Sequence[Image.Image | None]
    ) -> dict[str, torch.Tensor]:
        """Prepare B pairs; None stands for an absent half.

        Returns:
            input_ids [B,T], attention_mask [B,T], pixel_values [B,3,S,S], present [B,2] (text, image).
        """
        pixels = np.stack([self.pixels(image) for image in images])
        present = [[t is not None, i is not None] for t, i in zip(texts, images, strict=True)]
        return {
            **self.pad(self.ids(texts)),
            "pixel_values": self.normalise(torch.from_numpy(pixels)),
            "present": torch.tensor(present),
        }

    def ids(self, texts: Sequence[str | None]) -> list[list[int]]:
        """Word piece numbers of each text, cut at max_length; an absent text is an empty one."""
        present = [text or "" for text in texts]
        return self.tokenizer(
            present, truncation=True, max_length=self.max_length, return_attention_mask=False
        )["input_ids"]

    def word_starts(self, texts: Sequence[Sequence[str]]) -> list[list[int]]:
        """Where among the word pieces of " ".join(words) each word begins: the number of the first
        piece that has a letter of it; UNREAD where none does, because the text was cut before it."""
        if not texts:
            return []
        encoded = self.tokenizer(
            [" ".join(words) for words in texts],
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_offsets_mapping=True,
        )
        pairs = zip(texts, encoded["offset_mapping"], strict=True)
        return [_first_pieces(words, offsets) for words, offsets in pairs]

    def pad(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Ragged ids -> input_ids [B,T] and attention_mask [B,T], T being the longest."""
        longest = max(map(len, ids))
        fill = self.tokenizer.pad_token_id or 0
        padded = [[*row, *[fill] * (longest - len(row))] for row in ids]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}

    def pixels(self, image: Image.Image | None) -> np.ndarray:
        """One picture at the size the model sees, as bytes [S,S,3]; black for an absent one."""
        side = self.image_size
        if image is None:
            return np.zeros((side, side, 3), np.uint8)
        resized = to_rgb(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(resized)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes [B,S,S,3] -> float32 [B,3,S,S], in the channels-last memory order."""
        mean = torch.tensor(self.image_mean, device=pixels.device) * 255
        std = torch.tensor(self.image_std, device=pixels.device) * 255
        return ((pixels - mean) / std).permute(0, 3, 1, 2)

    def save_pretrained(self, folder: str | Path, **push: Any) -> None:
        """Write tokenizer files and preprocessor_config.json."""
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder)
        values = {
            "processor_class": type(self).__name__,
            "image_size": self.image_size,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "max_length": self.max_length,
        }
        (folder / FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> FusionProcessor:
        """Read back what `save_pretrained` wrote, from a folder or a Hub id.

        Raises:
            CheckpointError: preprocessor_config.json is missing or not one of ours.
        """
        try:
            path = cached_file(str(name), FILE, **options) or ""
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            values.pop("processor_class")
            tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=False, **options)
            return cls(tokenizer, **values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"{name} holds no processor of this app: {first_line(error)}"
            raise CheckpointError(message) from error


def _first_pieces(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """For each word, the first piece that overlaps it; pieces are given by their letters in the
    text."""
    starts, piece, begin = [], 0, 0
    for word in words:
        while piece < len(offsets) and offsets[piece][1] <= begin:
            piece += 1
        end = begin + len(word)
        found = piece < len(offsets) and offsets[piece][0] < end
        starts.append(piece if found else UNREAD)
        begin = end + 1
    return starts


def build_processor(
    settings: ModelSettings, texts: Sequence[str], usual_side: int
) -> FusionProcessor:
    """The processor that fits the encoders named in the settings.

    Args:
        settings: encoder names, `max_length`, `image_size`.
        texts: training texts, from which a scratch encoder's vocabulary is learnt.
        usual_side: side of the data's pictures in pixels, for scratch image encoders.

    Raises:
        EncoderError: a named encoder brings no tokenizer, or cannot be found.
    """
    size, mean, std = _image_recipe(Source.parse(settings.image_encoder), usual_side)
    tokenizer = _tokenizer(Source.parse(settings.text_encoder), texts, settings.max_length)
    longest = min(settings.max_length, tokenizer.model_max_length)
    return FusionProcessor(tokenizer, settings.image_size or size, mean, std, longest)


def _tokenizer(source: Source, texts: Sequence[str], max_length: int) -> PreTrainedTokenizerBase:
    if not source.pretrained:
        return learn_wordpiece(texts, max_length)
    tokenizer = fetch(AutoTokenizer.from_pretrained, source)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise EncoderError(f"The tokenizer of {source.name} has no padding token.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _image_recipe(
    source: Source, usual_side: int
) -> tuple[int, Sequence[float], Sequence[float]]:
    """Side in pixels, mean and standard deviation that the encoder was trained with."""
    if source.kind == "scratch":
        return min(96, max(32, round(usual_side / 16) * 16)), *PLAIN
    if source.kind == "torchvision":
        return 224, *IMAGENET
    try:
        recipe = fetch(AutoImageProcessor.from_pretrained, source)
    except EncoderError:
        # Some folders hold a model alone; the values most encoders were trained with serve then.
        return 224, *IMAGENET
    side = next((recipe.size[k] for k in ("height", "shortest_edge") if k in recipe.size), 224)
    crop = getattr(recipe, "crop_size", None) if getattr(recipe, "do_center_crop", False) else None
    side = crop["height"] if crop else side
    if not getattr(recipe, "do_normalize", True):
        return side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return side, recipe.image_mean, recipe.image_std
