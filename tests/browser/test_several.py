"""Many runs at once: a comparison is queued, its table fills, and two of its runs answer as one."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

TRAINING = 60_000  # milliseconds; two runs of a second, on a machine that may be busy


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def choose_only(page: Page, group: str, names: set[str]) -> None:
    """Tick these boxes and no others."""
    for label in page.locator(f"#{group} label").all():
        label.locator("input").set_checked(label.inner_text().strip() in names)


def coloured_squares(folder: Path) -> Path:
    """A zip of forty pairs: a red or a blue square, and a text that says no more than its number."""
    archive, picture = folder / "squares.zip", folder / "square.png"
    rows = ["file_name,text,label,split"]
    with zipfile.ZipFile(archive, "w") as out:
        for number, colour in enumerate(["red", "blue"] * 20):
            Image.new("RGB", (32, 32), colour).save(picture)
            out.write(picture, f"{number}.png")
            split = "test" if number < 8 else "validation" if number < 16 else "train"
            rows.append(f"{number}.png,square number {number},{colour},{split}")
        out.writestr("metadata.csv", "\n".join(rows))
    return archive


def test_two_fusions_are_compared_and_then_answer_as_one(
    page: Page, server, tmp_path: Path
) -> None:
    page.goto(server.url)
    expect(page.locator("#try-predict")).to_be_visible()
    tab(page, "Results")
    expect(page.locator("#comparison-shown")).to_contain_text("No comparison yet")

    tab(page, "Data")
    page.locator("#data-upload input[type=file]").set_input_files(coloured_squares(tmp_path))
    expect(page.locator("#data-summary")).to_contain_text("40", timeout=30_000)
    page.locator("#data-to-train").click()
    expect(page.get_by_text("Training on squares.zip")).to_be_visible()
    page.get_by_text("Advanced: every knob").click()
    page.get_by_label("Epochs (epochs)").fill("1")
    page.get_by_label("Width (numbers)").fill("16")
    page.get_by_role("button", name="Compare several").click()
    outlook, start = page.locator("#compare-outlook"), page.locator("#compare-start")
    choose_only(page, "compare-fusion", {"text-only"})
    expect(outlook).to_contain_text("nothing to compare yet")
    expect(start).to_be_disabled()
    choose_only(page, "compare-fusion", {"text-only", "concat", "early"})
    choose_only(page, "compare-tuning", {"head", "full"})
    expect(start).to_have_text("Queue 5 runs")
    expect(outlook).to_contain_text("Left out: Fusion early and tuning head exclude each other")
    choose_only(page, "compare-fusion", {"text-only", "concat"})
    choose_only(page, "compare-tuning", {"full"})
    expect(start).to_have_text("Queue 2 runs")
    start.click()
    page.locator("#compare-to-table").click()

    shown = page.locator("#comparison-shown")
    expect(shown.locator("tr")).to_have_count(3)
    expect(shown).to_contain_text("waiting")
    expect(page.locator("#comparison-cancel")).to_be_visible()
    expect(shown).not_to_contain_text("waiting", timeout=TRAINING)
    expect(shown.locator("tr", has_text="concat")).to_contain_text(re.compile(r"[01]\.\d{3}"))
    drawn = shown.locator("[role=img]")
    expect(drawn).to_have_attribute("aria-label", re.compile(r"text-only 0\.\d{3}; concat [01]\.\d{3}"))
    expect(page.locator("#comparison-cancel")).to_be_hidden()

    members = page.locator("#ensemble-members input")
    for fusion in ("text-only", "concat"):
        members.click()
        page.get_by_role("option", name=re.compile(fusion)).first.click()
    members.press("Escape")
    page.locator("#ensemble-start").click()
    expect(page.locator("#ensemble-told")).to_contain_text("ensemble of 2 · mean", timeout=30_000)
    expect(page.locator("#results-compare")).to_contain_text("ensemble of 2 · mean")
    expect(page.locator("#results-headline")).to_contain_text(re.compile(r"8\s*test pairs"))

    tab(page, "Try")
    expect(page.get_by_label("Model")).to_have_value(re.compile("ensemble of 2 · mean"))
    page.locator("#try-text textarea").fill("square number 50")
    page.locator("#try-predict").click()
    expect(page.locator("#try-answer")).to_contain_text("%", timeout=30_000)
