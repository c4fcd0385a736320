"""Every knob of a run, declared once: default, bounds, unit, help. Imports no torch.

The widget, the command-line option, the check and the model card's row are all drawn from these
fields. `TrainSettings` is the whole set; its parents are the narrower views that the data and the
model floors ask for, so a function says by its parameter which knobs it can see.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from mmapp.choices import names_in
from mmapp.knobs import Settings, setting


class DataSettings(Settings):
    """What rows mean, how they become pairs, and how pairs are dealt to the splits."""

    image_column: str | None = setting(
        None, "Column that names the image file. Empty: guessed, and the report says why."
    )
    text_column: str | None = setting(None, "Column that holds the text. Empty: guessed.")
    label_column: str | None = setting(None, "Column that holds the label. Empty: guessed.")
    split_column: str | None = setting(
        None, "Column that says train, validation or test. Empty: guessed, else pairs are dealt."
    )
    task: str = setting(
        "auto",
        "classify: one of N labels. multilabel: any of N, cells hold a|b or a JSON list. match: do "
        "text and image belong together? tag: a label for each word, texts and labels are JSON lists. "
        "auto: as the labels say.",
        table="mmapp.models.heads:TASKS",
    )
    incomplete: Literal["auto", "keep", "set-aside"] = setting(
        "auto",
        "Rows without a text or without an image. keep: train on the half that is there. "
        "auto: keep them when at least one row in ten lacks that half, since then it is no accident.",
    )
    validation_fraction: float = setting(
        0.1, "Share of the pairs that chooses the best epoch.", low=0.01, high=0.5
    )
    test_fraction: float = setting(
        0.1, "Share of the pairs that is only reported on.", low=0.01, high=0.5
    )
    seed: int = setting(
        0,
        "Start of every random choice: the deal, the first weights, the order.",
        low=0,
        high=2**31 - 1,
    )


class ModelSettings(Settings):
    """What is built: a text encoder, an image encoder, a fusion, a head."""

    text_encoder: str = setting(
        "scratch:bert",
        "A Hugging Face id or local folder (BERT, RoBERTa, MiniLM ...), or one of scratch:... "
        "to learn words and weights from your own texts.",
        table="mmapp.models.scratch:TEXT",
        prefix="scratch:",
        suggest=("bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"),
    )
    image_encoder: str = setting(
        "scratch:cnn",
        "A Hugging Face id or local folder (ViT, DINOv2, ResNet ...), torchvision:NAME, "
        "scratch:cnn or scratch:resnet.",
        table="mmapp.models.scratch:IMAGE",
        prefix="scratch:",
        suggest=("torchvision:resnet50", "google/vit-base-patch16-224-in21k"),
    )
    fusion: str = setting(
        "attention",
        "How text and image become one. attention, bilinear, gated and early can see agreement between "
        "the two; concat, sum, weighted and late add up what each says; text-only and image-only are "
        "the baselines.",
        table="mmapp.models.fusion:FUSIONS",
    )
    width: int = setting(128, "Size of the shared space both modalities are projected into.",
                         unit="numbers", low=8, high=4096)  # fmt: skip
    dropout: float = setting(
        0.1, "Share of the fused numbers hidden while training.", low=0.0, high=0.9
    )
    max_length: int = setting(
        128, "Longer texts are cut here.", unit="word pieces", low=4, high=8192
    )
    image_size: int | None = setting(
        None,
        "Side of the square every image is brought to. Empty: what the encoder was trained with; "
        "for scratch encoders the images' own size, between 32 and 96.",
        unit="pixels",
        low=16,
        high=1024,
    )


# Fusions that have no vector of the one half that knows nothing of the other.
NOT_APART = ("early", "text-only", "image-only")


class TrainSettings(DataSettings, ModelSettings):
    """Everything needed to do a run again, but for the data itself."""

    start_from: str | None = setting(
        None,
        "A run or checkpoint folder, or a shipped name, whose encoders, vocabulary and weights the run "
        "begins with. Empty: from the encoders named above.",
    )
    shots: int | None = setting(
        None,
        "Training pairs kept of each label, drawn by the seed; the others are left out. Empty: all.",
        unit="pairs",
        low=1,
    )
    tuning: str = setting(
        "full",
        "head: the encoders stay as they are, their features are computed once and kept, which is "
        "what makes a run on a CPU end in a minute. lora, bias, top-k: a small part of each encoder "
        "learns. full: every weight does.",
        table="mmapp.models.tuning:TUNINGS",
    )
    epochs: int = setting(12, "Most times every pair is seen.", unit="epochs", low=1, high=1000)
    batch_size: int = setting(
        64, "Pairs behind one step, over all devices together.", unit="pairs", low=1, high=4096
    )
    learning_rate: float | None = setting(
        None,
        "Step size of every weight that learns. Empty: 0.001, but 0.0005 for scratch encoders and "
        "0.00003 for pretrained ones (0.0003 with tuning lora).",
        low=0.0,
        high=1.0,
    )
    encoder_learning_rate: float | None = setting(
        None,
        "A separate step size for the encoders. Empty: as the learning rate.",
        low=0.0,
        high=1.0,
    )
    top_layers: int = setting(
        2, "With tuning top-k: how many of each encoder's last layers learn.", unit="layers",
        low=1, high=1000,
    )  # fmt: skip
    lora_rank: int = setting(
        8, "With tuning lora: rank of the matrices added to the encoders' linear layers.",
        low=1, high=1024,
    )  # fmt: skip
    layer_decay: float = setting(
        1.0,
        "Each encoder layer learns by this factor slower than the one above it. 1: all alike.",
        low=0.1,
        high=1.0,
    )
    optimizer: Literal["adamw", "adam", "sgd"] = setting(
        "adamw", "How gradients become steps. sgd uses a momentum of 0.9 and wants larger rates."
    )
    accumulation: int = setting(
        1,
        "Parts each batch is worked through in, one after the other: less memory, same result. "
        "Doubled by itself when the memory does not suffice.",
        unit="parts",
        low=1,
        high=4096,
    )
    loss: str = setting(
        "auto",
        "What is made small. auto: the task's own. focal: looks at hard pairs. logistic: labels as "
        "plus and minus one.",
        table="mmapp.training.objectives:LOSSES",
    )
    label_smoothing: float = setting(
        0.0, "Share of each label's weight that is spread over all labels.", low=0.0, high=0.9
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none", "balanced: a rare label counts as much as a frequent one."
    )
    focal_gamma: float = setting(
        2.0, "With loss focal: how strongly easy pairs are played down. 0: not at all.",
        low=0.0, high=10.0,
    )  # fmt: skip
    alignment: float = setting(
        0.0,
        "Weight of a contrastive term that brings the two halves of a pair together and others apart; "
        "a model trained with it can answer by label names alone. Pairs are compared within a part of "
        "a batch and a device's share of it; the training loss counts the term. 0: off.",
        low=0.0,
        high=10.0,
    )
    weight_decay: float = setting(0.01, "Pull of every weight towards zero.", low=0.0, high=1.0)
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "cosine", "How the step size falls after the warm-up."
    )
    warmup: float = setting(
        0.1, "Share of all steps over which the step size rises from zero.", low=0.0, high=0.9
    )
    clip: float = setting(
        1.0, "Longest gradient allowed; longer ones are shortened. 0: off.", low=0.0, high=1000.0
    )
    modality_dropout: float = setting(
        0.05,
        "Share of the training pairs shown with one half hidden, so that the model can answer when "
        "a half is absent.",
        low=0.0,
        high=0.9,
    )
    watch: Literal["macro_f1", "accuracy", "loss"] = setting(
        "macro_f1", "Validation figure that chooses the best epoch."
    )
    patience: int = setting(
        4, "Epochs without a better figure before training ends. 0: never.", unit="epochs",
        low=0, high=1000,
    )  # fmt: skip
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "Number format of the heavy arithmetic. auto: bf16 where the hardware has it."
    )
    tracker: Literal["none", "trackio", "wandb"] = setting(
        "none",
        "Who else is shown the curves while they grow. TensorBoard's files are always in the run's "
        "folder.",
    )

    @model_validator(mode="after")
    def _no_contradictions(self) -> TrainSettings:
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError(
                f"validation_fraction {self.validation_fraction} and test_fraction "
                f"{self.test_fraction} leave less than a fifth of the pairs to learn from"
            )
        if self.fusion == "early" and self.tuning == "head":
            raise ValueError(
                "Fusion early and tuning head exclude each other: the text encoder is to read the "
                "image, so its features cannot be computed beforehand. Choose another of one of them"
            )
        if self.alignment and self.fusion in NOT_APART:
            raise ValueError(
                f"Fusion {self.fusion} and alignment {self.alignment:g} exclude each other: alignment "
                "compares a text and an image encoded apart. Choose another fusion, or alignment 0"
            )
        return self


class SearchSettings(Settings):
    """What a search may try, and for how long; everything else is as the training settings say."""

    minutes: float = setting(
        10.0,
        "Time for all trials together. The one at work when it is over ends with its best epoch; the "
        "very first may finish one.",
        unit="minutes",
        low=0.01,
        high=10_080,
    )
    trials: int = setting(30, "Most trials.", unit="trials", low=1, high=1000)
    fusions: str = setting(
        "attention,bilinear,concat",
        "Fusions to try, separated by commas.",
        table="mmapp.models.fusion:FUSIONS",
        several=True,
    )
    tunings: str = setting(
        "",
        "Tunings to try, separated by commas. Empty: the one of the training settings.",
        table="mmapp.models.tuning:TUNINGS",
        several=True,
    )

    @model_validator(mode="after")
    def _known_names(self) -> SearchSettings:
        for written, what in ((self.fusions, "fusion"), (self.tunings, "tuning")):
            if written:
                names_in(written, TrainSettings.model_fields[what], what)
        return self


# Plain names for sensible wholes; the page offers them before the single knobs.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
    "classic": {
        "text_encoder": "bert-base-uncased",
        "image_encoder": "torchvision:resnet50",
        "tuning": "head",
    },
    "strong": {
        "text_encoder": "bert-base-uncased",
        "image_encoder": "torchvision:resnet50",
        "epochs": 4,
        "batch_size": 32,
        "patience": 2,
    },
}
