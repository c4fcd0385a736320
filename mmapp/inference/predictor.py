"""Predictor: a checkpoint -> answers for one pair or many. Knows no training and no page.

It runs the same processor and the same forward as the report did, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmapp.data.cells import words_of
from mmapp.data.images import open_image
from mmapp.data.ingest import load_pairs
from mmapp.data.loading import Asked, PairDataset, PairLoader
from mmapp.data.pairs import LabelSet, PairTable, as_cell
from mmapp.data.tags import with_words
from mmapp.device import autocast, choose_precision, inference_device, rows_at_once
from mmapp.errors import ColumnError, DataError
from mmapp.evaluation.metrics import answers
from mmapp.evaluation.outputs import Outputs, collect, forward_inputs, to_device, words_in_order
from mmapp.inference.zero_shot import compare, in_words, names_given, require_aligned
from mmapp.models.ensemble import combine
from mmapp.settings import DataSettings
from mmapp.storage.checkpoint import load_checkpoint
from mmapp.storage.ensemble import read_ensemble

Picture = Image.Image | str | Path

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """An answer.

    Attributes:
        label: the most probable one; where a row may have several, all that are more probable than
            not, as a|b.
        probabilities: of every label, the most probable first; they sum to one, unless a row may
            have several.
        confidence: probability that the answer is right; of several labels or words, that all of it
            is, were they independent.
        words: of the task tag, every word of the text with its tag and how sure that is. `label` is
            then the JSON list of the tags, and `probabilities` is empty.
    """

    label: str
    probabilities: dict[str, float]
    confidence: float
    words: tuple[tuple[str, str, float], ...] = ()

    @classmethod
    def of(cls, row: np.ndarray, labels: LabelSet) -> Prediction:
        """From the probabilities [C] of one row."""
        order = np.argsort(-row, kind="stable")
        ranked = {labels.names[i]: float(row[i]) for i in order}
        if not labels.several:
            first = next(iter(ranked))
            return cls(first, ranked, ranked[first])
        said = answers(row)
        names = [name for name, yes in zip(labels.names, said, strict=True) if yes]
        return cls("|".join(names), ranked, float(np.where(said, row, 1 - row).prod()))


    @classmethod
    def of_tags(cls, text: str, rows: np.ndarray, labels: LabelSet) -> Prediction:
        """From the probabilities [W,C] of the words of one text."""
        best, sure = rows.argmax(axis=1), rows.max(axis=1, initial=0.0)
        tags = [labels.names[i] for i in best]
        words = tuple(zip(words_of(text), tags, map(float, sure), strict=True))
        return cls(as_cell(tags), {}, float(sure.prod()), words)


class Member:
    """One opened model, and everything it needs to answer."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        model, self.processor = load_checkpoint(folder)
        self.device = device
        self.model = model.to(device)  # type: ignore[arg-type]  # its decorator hides the type
        parameters = sum(p.numel() for p in model.parameters())
        # On a CPU answers stay in float32, the same whatever the batch.
        self.precision = choose_precision("auto", parameters) if device.type == "cuda" else "fp32"

    @property
    def labels(self) -> LabelSet:
        model = self.model
        return LabelSet(model.config.label_names, several=model.several, of_words=model.of_words)

    @torch.inference_mode()
    def of_pairs(
        self, texts: Sequence[str | None], pictures: Sequence[Image.Image | None]
    ) -> Outputs:
        """Logits [B,C] of pairs in one pass; of words, those of all pairs one after the other."""
        asked = Asked()
        if self.model.of_words:
            words = [words_of(text or "") for text in texts]
            texts = [" ".join(some) for some in words]
            asked = Asked(starts=self.processor.word_starts(words))
        batch: dict[str, Any] = {**self.processor(texts, pictures), **asked.of(range(len(texts)))}
        if bool(batch["present"].all()):
            del batch["present"]
        with autocast(self.device, self.precision):
            said = self.model(**forward_inputs(to_device(batch, self.device)))
        logits = said.logits.float().cpu().numpy()
        if self.model.of_words:
            found = [{"index": np.arange(len(texts)), "logits": logits}]
            return words_in_order(found, asked, self.labels.names)
        joint = None if said.joint is None else said.joint.cpu().numpy()
        return Outputs(logits, None, self.model.several, joint)

    def of_table(
        self, table: PairTable, labels: LabelSet | None, progress: Callable[[int], None] | None
    ) -> Outputs:
        """Logits [N,C] of a table's rows, and its labels as numbers when `labels` is given."""
        size = rows_at_once(self.device, self.processor.image_size, BATCH)
        rows = PairDataset(table, self.processor, labels, of_words=self.model.of_words)
        loader = PairLoader(rows, size)
        return collect(
            self.model, loader, device=self.device, precision=self.precision, progress=progress
        )


class Predictor:
    """A checkpoint, opened once: a model, or several that answer as one.

    Args:
        checkpoint: a checkpoint, ensemble or run folder, or the name of a shipped checkpoint.
        device: where to compute; a GPU when there is one by default.

    Raises:
        CheckpointError: nothing usable there.
    """

    def __init__(self, checkpoint: str | Path, device: str | torch.device | None = None) -> None:
        ensemble = read_ensemble(checkpoint)
        place = torch.device(device) if device else inference_device()
        members = [Member(folder, place) for folder in ensemble.members]
        self._join(members, ensemble.weights, ensemble.strategy)

    @classmethod
    def together(
        cls, predictors: Sequence[Predictor], weights: Sequence[float], strategy: str
    ) -> Predictor:
        """Open checkpoints as one, without opening them again."""
        joined = cls.__new__(cls)
        joined._join([m for p in predictors for m in p.members], weights, strategy)
        return joined

    def _join(self, members: list[Member], weights: Sequence[float], strategy: str) -> None:
        self.members = members
        self.model = members[0].model
        self._weights, self._strategy = np.array(weights), strategy
        self._side = max(member.processor.image_size for member in members)

    @property
    def labels(self) -> LabelSet:
        return self.members[0].labels

    @property
    def task(self) -> str:
        return self.model.config.task

    def predict(self, text: str | None = None, image: Picture | None = None) -> Prediction:
        """Answer for one pair; either half may be left out.

        Raises:
            DataError: both halves are absent, or the image cannot be opened.
        """
        return self.predict_many([text], [image])[0]

    def predict_many(
        self, texts: Sequence[str | None], images: Sequence[Picture | None]
    ) -> list[Prediction]:
        """Answers for B pairs in one pass through each model, in order. Raises DataError."""
        texts, pictures = self._opened(texts, images)
        if self.labels.of_words and not all(words_of(text or "") for text in texts):
            raise DataError("This model tags the words of a text, and there is none. Give a text.")
        outputs = self._together([member.of_pairs(texts, pictures) for member in self.members])
        return self._answers(texts, outputs)

    def predict_table(
        self, table: PairTable, progress: Callable[[int], None] | None = None
    ) -> list[Prediction]:
        """Answers for every row of a table, in its order.

        Args:
            table: rows with a text, an image or both; labels are not looked at.
            progress: called with the number of rows done.
        """
        return self._answers(table.frame["text"], self.outputs(table, labels=None, progress=progress))

    def _answers(self, texts: Iterable[str | None], outputs: Outputs) -> list[Prediction]:
        said, labels = outputs.probabilities(), self.labels
        if not labels.of_words:
            return [Prediction.of(row, labels) for row in said]
        rows = zip(texts, outputs.by_row(said), strict=True)
        return [Prediction.of_tags(text or "", row, labels) for text, row in rows]

    def zero_shot(
        self,
        labels: Sequence[str],
        text: str | None = None,
        image: Picture | None = None,
        template: str = "{}",
    ) -> Prediction:
        """Answer for one pair by the names of labels alone, learnt or not; either half may be left out.

        Args:
            labels: two or more names, read as texts.
            text: the pair's text.
            image: the pair's image.
            template: what is read of each label; `{}` stands for its name.

        Raises:
            CheckpointError: an ensemble, or a model trained without `alignment`.
            SettingsError: fewer than two labels, or a template without a place for them.
            DataError: both halves are absent, or the image cannot be opened.
        """
        names = names_given(labels)
        fit = self._fit(names, template)
        pair = self.members[0].of_pairs(*self._opened([text], [image]))
        return Prediction.of(fit(pair).probabilities()[0], names)

    def zero_shot_outputs(
        self,
        table: PairTable,
        labels: LabelSet,
        template: str = "{}",
        progress: Callable[[int], None] | None = None,
    ) -> Outputs:
        """As `outputs`, but by the names of `labels` alone. Raises what `zero_shot` raises."""
        fit = self._fit(labels, template)
        return fit(self.outputs(table, labels, progress))

    def _fit(self, names: LabelSet, template: str) -> Callable[[Outputs], Outputs]:
        """What pairs are asked with: how well each name fits them. Raises what `zero_shot` raises."""
        scale = float(require_aligned([m.model for m in self.members]).scale.detach())
        read = self.members[0].of_pairs(in_words(names, template), [None] * len(names)).placed()[:, 0]
        return lambda pairs: Outputs(compare(pairs.placed(), read, scale), pairs.labels)

    def load_pairs(
        self, data: str | Path, overrides: dict[str, Any] | None = None, need_labels: bool = True
    ) -> PairTable:
        """Read data as training read its own: the same columns where they are there, the same deal.

        Args:
            data: anything `load_pairs` reads.
            overrides: DataSettings that differ, such as a column's name.
            need_labels: see `load_pairs`.

        Raises:
            DataError: nothing usable there.
        """
        table = self._read(data, overrides or {}, need_labels)
        return with_words(table) if self.labels.of_words else table

    def _read(self, data: str | Path, overrides: dict[str, Any], need_labels: bool) -> PairTable:
        """The pairs, columns guessed where those that training was told of are not there."""
        trained_with = self.model.config.data_settings or {}
        try:
            settings = DataSettings(**{**trained_with, **overrides})
            return load_pairs(data, settings, need_labels=need_labels)
        except ColumnError:
            own = {k: v for k, v in trained_with.items() if not k.endswith("_column")}
            return load_pairs(data, DataSettings(**{**own, **overrides}), need_labels=need_labels)

    def outputs(
        self,
        table: PairTable,
        labels: LabelSet | None,
        progress: Callable[[int], None] | None = None,
    ) -> Outputs:
        """Logits [N,C] of every row of a table, and its labels as numbers when `labels` is given."""
        return self._together([m.of_table(table, labels, progress) for m in self.members])

    def _together(self, outputs: Sequence[Outputs]) -> Outputs:
        """One model's own outputs, calibrated; of several, the logarithms of what they say together."""
        pairs = zip(self.members, outputs, strict=True)
        outputs = [replace(out, temperature=m.model.config.temperature) for m, out in pairs]
        first = outputs[0]
        if len(outputs) == 1 or not len(first.logits):
            return first
        order = [[m.labels.names.index(name) for name in self.labels.names] for m in self.members]
        said = [out.probabilities()[:, columns] for out, columns in zip(outputs, order, strict=True)]
        given = combine(np.stack(said), self._weights, self._strategy).clip(1e-12, 1.0)
        logits = np.log(given)
        if first.several:
            logits = logits - np.log((1 - given).clip(1e-12, 1.0))
        return replace(first, logits=logits, temperature=1.0)

    def _opened(
        self, texts: Sequence[str | None], images: Sequence[Picture | None]
    ) -> tuple[list[str | None], list[Image.Image | None]]:
        """Pairs as the processor takes them; blank texts are absent ones. Raises DataError."""
        stripped = [text.strip() or None if text else None for text in texts]
        pictures = [self._picture(image) for image in images]
        for text, picture in zip(stripped, pictures, strict=True):
            if text is None and picture is None:
                raise DataError("Neither a text nor an image was given. Give at least one of them.")
        return stripped, pictures

    def _picture(self, image: Picture | None) -> Image.Image | None:
        if image is None or isinstance(image, Image.Image):
            return image
        try:
            return open_image(Path(image), at_least=self._side)
        except DataError as error:
            raise DataError(f"Image {image}: {error}.") from None
