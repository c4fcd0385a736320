"""A label for each word, in the page: seen as data, learnt, and asked for."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect


def tagged_squares(folder: Path) -> Path:
    """A zip of forty squares, each with a sentence in which its colour is marked."""
    archive, picture = folder / "tagged.zip", folder / "square.png"
    lines = []
    with zipfile.ZipFile(archive, "w") as out:
        for number in range(40):
            shown = ["red", "blue"][number % 2]
            Image.new("RGB", (32, 32), shown).save(picture)
            out.write(picture, f"{number}.png")
            words = ["red", "or", "blue", f"<i>{number}</i>"]
            tags = ["B-SHOWN" if word == shown else "O" for word in words]
            split = "test" if number < 8 else "validation" if number < 16 else "train"
            record = {"file_name": f"{number}.png", "tokens": words, "tags": tags, "split": split}
            lines.append(json.dumps(record))
        out.writestr("metadata.jsonl", "\n".join(lines))
    return archive


def test_words_are_marked_learnt_and_answered_for(page: Page, server, tmp_path: Path) -> None:
    page.goto(server.url)
    expect(page.locator("#try-predict")).to_be_visible()
    page.get_by_role("tab", name="Data", exact=True).click()
    page.locator("#data-upload input[type=file]").set_input_files(tagged_squares(tmp_path))
    cards = page.locator("#data-pairs")
    expect(cards.locator("mark").first).to_have_text("red", timeout=60_000)
    expect(cards).to_contain_text("<i>0</i>")  # shown, not rendered
    page.locator("#data-to-train").click()
    page.get_by_text("Advanced: every knob").click()
    page.get_by_label("Epochs (epochs)").fill("1")
    page.locator("#train-start").click()
    expect(page.locator("#train-status")).to_contain_text("Done", timeout=90_000)

    page.get_by_role("tab", name="Results", exact=True).click()
    headline = page.locator("#results-headline")
    expect(headline).to_contain_text(re.compile(r"[01]\.\d{3}\s*Entity F1"))

    page.get_by_role("tab", name="Try", exact=True).click()
    page.locator("#try-text textarea").fill("blue or red")
    page.locator("#try-predict").click()
    expect(page.locator("#try-tagged")).to_contain_text("blue", timeout=30_000)
    expect(page.locator("#try-answer")).to_be_hidden()
