"""The model card: measured values only, each from the run itself. Knows no folder and no Hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from mmapp.data.processor import FusionProcessor
from mmapp.models.configuration import FusionConfig

if TYPE_CHECKING:
    from mmapp.storage.checkpoint import Facts

HEADLINES = {
    "accuracy": "Accuracy",
    "entity_f1": "Entity F1",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
}
DIRECTIONS = {"text_to_image": "a text finds its image", "image_to_text": "an image its text"}
MAX_CLASSES = 50  # rows of the per-class table; a card is read by people

CARD = """---
{header}
---

# {title}

Takes a text and an image and answers with one of {count} labels: {labels}.
{task_line}

| part | what |
|---|---|
| text encoder | {text_encoder} |
| image encoder | {image_encoder} |
| fusion | {fusion} |
| tuning | {tuning} |

## How well

On {n} test pairs that chose nothing, neither weights nor settings. The bracket is the 95 % bootstrap
interval over those pairs.

{scores}

Always answering {majority_label} would reach an accuracy of {majority_accuracy:.3f}.{before}{further}

{classes}

## Trained on

`{source}`: {used} pairs ({splits}); {set_aside} rows were set aside as unusable.
{timing}

```
{command}
```

## Use it

```python
from mmapp import Predictor

predictor = Predictor("this folder")
answer = predictor.predict(text="a text", image="picture.png")
print(answer.label, answer.probabilities)
```

Texts are cut at {max_length} word pieces; images are brought to {image_size} × {image_size} pixels,
proportions not kept. Either half may be left out.
"""

TASK_LINES = {
    "classify": "Every pair gets exactly one label.",
    "multilabel": "A pair may have any number of the labels; accuracy counts rows told right whole.",
    "match": "The question is whether text and image belong together.",
    "tag": "Every word of the text gets a label. Precision, recall and F1 count whole entities.",
}


def write_card(config: FusionConfig, processor: FusionProcessor, facts: Facts) -> str:
    """The text of README.md, Hugging Face header included."""
    report, data = facts.report, facts.data
    names = config.label_names
    shown = ", ".join(map(_plain, names[:12])) + (" …" if len(names) > 12 else "")
    majority = report.get("majority", {"label": "", "accuracy": float("nan")})
    return CARD.format(
        header=_header(config, facts),
        title=f"{config.fusion} fusion on {_plain(_source(data))}",
        count=len(names),
        labels=shown,
        task_line=TASK_LINES[config.task],
        text_encoder=_encoder(config, "text"),
        image_encoder=_encoder(config, "image"),
        fusion=config.fusion,
        tuning=facts.settings.get("tuning", ""),
        n=report["n"],
        scores=_scores(report),
        majority_label=_plain(repr(majority["label"])),
        majority_accuracy=majority["accuracy"],
        before=_before(report, facts.settings),
        further=_calibration(report) + _retrieval(report),
        classes=_classes(report),
        source=_in_code(_source(data)),
        used=data["used"],
        splits=", ".join(f"{split} {n}" for split, n in data["splits"].items()),
        set_aside=data["set_aside"],
        timing=_timing(facts.timing),
        command=_in_code(facts.command),
        max_length=processor.max_length,
        image_size=processor.image_size,
    )


def _header(config: FusionConfig, facts: Facts) -> str:
    results = [
        EvalResult(
            task_type="image-text-to-text" if config.task == "match" else "text-classification",
            dataset_type=_source(facts.data).replace(":", "-"),
            dataset_name=_source(facts.data),
            dataset_split=facts.report["split"],
            metric_type=name,
            metric_name=title,
            metric_value=facts.report[name],
        )
        for name, title in HEADLINES.items()
        if name in facts.report
    ]
    return ModelCardData(
        library_name="mmapp",
        tags=["multimodal", "image-text", f"fusion-{config.fusion}", config.task],
        model_name=f"{config.fusion} fusion on {_source(facts.data)}",
        eval_results=results or None,
    ).to_yaml()


def _source(data: dict[str, Any]) -> str:
    """The data's name without the folders of somebody's machine, on one line."""
    name = str(data["source"]).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return " ".join(name.split())


def _encoder(config: FusionConfig, modality: str) -> str:
    read = getattr(config, f"{modality}_config") is not None
    if not read:
        return "none: this fusion does not look"
    return f"`{_in_code(getattr(config, f'{modality}_encoder'))}`"


def _plain(text: str) -> str:
    """Somebody's words as words: on one line, and no mark, link, picture or tag among them."""
    escaped = re.sub(r"([\\`*_\[\]#|~!&$])", r"\\\1", " ".join(text.split()))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _in_code(text: str) -> str:
    """Between backticks nothing is a mark but a backtick and a line break."""
    return " ".join(text.split()).replace("`", "'")


def _scores(report: dict[str, Any]) -> str:
    rows = ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name, title in HEADLINES.items():
        if name in report:
            low, high = report.get("intervals", {}).get(name, (None, None))
            interval = f"{low:.3f} – {high:.3f}" if low is not None else ""
            rows.append(f"| {title} | {report[name]:.3f} | {interval} |")
    return "\n".join(rows)


def _before(report: dict[str, Any], settings: dict[str, Any]) -> str:
    """Of a model that began with the weights of another: whose, and how well that one did."""
    if not settings.get("start_from"):
        return ""
    start = f"\nIt began with the weights of `{_in_code(settings['start_from'])}`"
    if "before" not in report:
        return f"{start}."
    change, (low, high) = report["change"]["accuracy"], report["change"]["interval"]
    return (
        f"{start}; on the same pairs, before: accuracy {report['before']['accuracy']:.3f}; change "
        f"{change:+.3f} ({low:+.3f} – {high:+.3f})."
    )


def _calibration(report: dict[str, Any]) -> str:
    """What the temperature did to how far the probabilities can be believed, where there is one."""
    found = report.get("calibration", {})
    if found.get("temperature", 1.0) == 1.0:
        return ""
    return (
        "\n\nProbabilities were calibrated on validation pairs: expected calibration error "
        f"{found['ece']:.3f}, {found['ece_before']:.3f} before "
        f"(temperature {found['temperature']:.2f})."
    )


def _retrieval(report: dict[str, Any]) -> str:
    """Of an aligned model: how often one half of a pair finds the other, and what else that allows."""
    found = report.get("retrieval", {})
    if not found.get("pairs"):
        return ""
    told = []
    for direction, halves in DIRECTIONS.items():
        figures = found[direction]
        low, high = figures["interval"]
        told.append(
            f"{halves} first among {figures['candidates']} in {figures['recall@1']:.3f} "
            f"({low:.3f} – {high:.3f}; by chance {figures['chance@1']:.3f})"
        )
    return (
        f"\n\nText and image are aligned: {', '.join(told)}. So it also answers by label names that it "
        'never learnt: `predictor.zero_shot(["one", "two"], image="picture.png")`.'
    )


def _classes(report: dict[str, Any]) -> str:
    rows = ["| label | precision | recall | F1 | test pairs |", "|---|---|---|---|---|"]
    for row in report.get("per_class", [])[:MAX_CLASSES]:
        label = _plain(str(row["label"]))
        figures = " | ".join(f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        rows.append(f"| {label} | {figures} | {row['support']} |")
    return "\n".join(rows)


def _timing(timing: dict[str, Any]) -> str:
    if not timing:
        return ""
    return f"Training took {timing['seconds']:.0f} s on {timing['device']} ({timing['processor']})."
