"""FusionConfig: everything FusionModel is built from. Plain values, no weights."""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

FORMAT_VERSION = 1


class FusionConfig(PreTrainedConfig):
    """Configuration of FusionModel. Keyword-only, like every config of transformers.

    Args:
        text_config: configuration of the text encoder; None when the fusion does not read text.
        image_config: configuration of the image encoder; None when the fusion reads no image.
        text_encoder: the name it was asked for by ("bert-base-uncased", "scratch:bert").
        image_encoder: likewise.
        text_width: numbers per word piece that the text encoder gives.
        image_width: numbers per image position that the image encoder gives.
        fusion: a key of FUSIONS.
        task: a key of TASKS.
        width: D, size of the shared space.
        dropout: share of fused numbers hidden while training.
        alignment: weight of the contrastive term it is trained with; above 0 it has a joint space.
        fixed_batch_norm: keep the image encoder's batch-norm statistics as pretrained.
        temperature: what logits are divided by before they become probabilities; found on validation
            pairs once training is over.
        data_settings: how the training data was read and dealt, so that it can be dealt again.
        data_fingerprint: hash of the training table's content, to recognise it.
        format_version: of the checkpoint's layout.
    """

    model_type = "mmapp_fusion"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
        "image_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True),
    }

    text_config: PreTrainedConfig | dict | None = None
    image_config: PreTrainedConfig | dict | None = None
    text_encoder: str = "scratch:bert"
    image_encoder: str = "scratch:cnn"
    text_width: int = 128
    image_width: int = 128
    fusion: str = "attention"
    task: str = "classify"
    width: int = 128
    dropout: float = 0.1
    alignment: float = 0.0
    fixed_batch_norm: bool = False
    temperature: float = 1.0
    data_settings: dict | None = None
    data_fingerprint: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of their numbers."""
        named = {int(number): name for number, name in (self.id2label or {}).items()}
        return tuple(named[number] for number in sorted(named))
