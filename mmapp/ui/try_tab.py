"""The first tab: ask a finished model about one pair, or about a table of them."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mmapp.data.cells import OUTSIDE
from mmapp.ui import words
from mmapp.ui.handlers import spoken
from mmapp.ui.shelf import BUNDLED, Shelf
from mmapp.ui.uploads import keep_upload


@dataclass(frozen=True)
class TryTab:
    """What other tabs may write to."""

    model: gr.Dropdown


def build(shelf: Shelf) -> TryTab:
    """Draw the tab and wire it."""
    with gr.Tab(words.TRY, id="try"):
        gr.Markdown(words.TRY_INTRO)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                # The shelf checks the key; a caller of the API knows models made since this was drawn.
                model = gr.Dropdown(
                    shelf.choices(),
                    value=shelf.first(),
                    label=words.MODEL,
                    info=words.MODEL_INFO,
                    allow_custom_value=True,
                )
                text = gr.Textbox(
                    label=words.TEXT, placeholder=words.TEXT_PLACEHOLDER, lines=3, elem_id="try-text"
                )
                image = gr.Image(
                    label=words.IMAGE, type="filepath", height=260, elem_id="try-image"
                )
                names = gr.Textbox(
                    label=words.NAMES,
                    info=words.NAMES_INFO,
                    value="",
                    visible=shelf.aligned(shelf.first()),
                    elem_id="try-names",
                )
                ask = gr.Button(words.PREDICT, variant="primary", elem_id="try-predict")
            with gr.Column(scale=2, min_width=300):
                answer = gr.Label(label=words.ANSWER, num_top_classes=6, elem_id="try-answer")
                tagged = gr.HighlightedText(
                    label=words.TAGGED, visible=False, show_legend=True, elem_id="try-tagged"
                )
                examples = _examples()
                if examples:
                    gr.Examples(examples, [text, image], label=words.EXAMPLES)
        with gr.Accordion(words.MANY, open=False):
            gr.Markdown(words.MANY_INTRO)
            file = gr.File(
                label=words.MANY_FILE, file_types=[".zip", ".csv", ".tsv", ".jsonl", ".parquet"]
            )
            start = gr.Button(words.MANY_START)
            summary = gr.Markdown()
            result = gr.File(label=words.MANY_RESULT, interactive=False)

    @spoken
    def predict(
        key: str | None, words_given: str | None, picture: str | None, names: str | None = ""
    ) -> tuple[gr.Label, gr.HighlightedText]:
        """Ask a finished model about one pair.

        Args:
            key: which model, as the list of models names it.
            words_given: the text; may be empty.
            picture: the image file; may be absent.
            names: labels to answer with, separated by commas, of a model trained with alignment; empty
                for those it has learnt.

        Returns:
            The probability of each label; of a model that tags words, each word with its tag.
        """
        predictor = shelf.open(key)
        if names and names.strip():
            found = predictor.zero_shot(names.split(","), words_given, picture)
        else:
            found = predictor.predict(words_given or None, picture)
        marked: list[tuple[str, str | float | None]] = [
            (f"{word} ", None if tag == OUTSIDE else tag) for word, tag, _ in found.words
        ]
        return (
            gr.Label(found.probabilities or None, visible=not marked),
            gr.HighlightedText(marked or None, visible=bool(marked)),
        )

    @spoken
    def offer(key: str | None) -> gr.Textbox:
        """Names are asked for only where the model can answer with them."""
        return gr.Textbox(value="", visible=shelf.aligned(key))

    @spoken
    def predict_many(key: str | None, uploaded: str | None) -> tuple[Any, str]:
        """Answer for every row of a zip or table; gives a CSV."""
        from mmapp.inference.answers import answer_table

        if not uploaded:
            raise gr.Error(words.MANY_INTRO, print_exception=False)
        source, _ = keep_upload([Path(uploaded)])
        output = Path(tempfile.mkdtemp()) / "predictions.csv"
        answered, rows = answer_table(shelf.open(key), source, output)
        return str(output), words.MANY_DONE.format(answered=answered, rows=rows)

    gr.on(
        [ask.click, text.submit, names.submit],
        predict,
        [model, text, image, names],
        [answer, tagged],
        api_name="predict",
    )
    model.change(offer, model, names, api_visibility="private", show_progress="hidden")
    start.click(predict_many, [model, file], [result, summary], api_name="predict_table")
    return TryTab(model)


def _examples() -> list[list[str]]:
    """Pairs that came with the bundled checkpoints: text and picture."""
    found = []
    for path in sorted(BUNDLED.glob("*/examples/metadata.csv")):
        with path.open(newline="", encoding="utf-8") as table:
            found += [
                [row["text"], str(path.parent / row["file_name"])] for row in csv.DictReader(table)
            ]
    return found
