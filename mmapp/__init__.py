"""mmapp: fine-tune BERT-plus-image fusion models and see whether the image helps.

    from mmapp import TrainSettings, evaluate, load_pairs, prepare, train

    pairs = load_pairs("sample:digits")
    settings = TrainSettings(fusion="attention")
    model, processor, loaders = prepare(pairs, settings)
    for event in train(model, loaders, settings):
        print(event.kind, event.values)

Names are loaded when they are first used: `import mmapp` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmapp.data.ingest import load_pairs
    from mmapp.inference.predictor import Predictor
    from mmapp.inference.scoring import evaluate
    from mmapp.models.model import FusionModel
    from mmapp.settings import TrainSettings
    from mmapp.training.continuing import continued
    from mmapp.training.loop import train
    from mmapp.training.prepare import prepare

__version__ = "0.1.0"

_HOMES = {
    "FusionModel": "mmapp.models.model",
    "Predictor": "mmapp.inference.predictor",
    "TrainSettings": "mmapp.settings",
    "continued": "mmapp.training.continuing",
    "evaluate": "mmapp.inference.scoring",
    "load_pairs": "mmapp.data.ingest",
    "prepare": "mmapp.training.prepare",
    "train": "mmapp.training.loop",
}

__all__ = [
    "FusionModel",
    "Predictor",
    "TrainSettings",
    "continued",
    "evaluate",
    "load_pairs",
    "prepare",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mmapp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
