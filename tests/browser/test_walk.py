"""The walk of a person who has never seen the page: data, training, a reload, results, an answer."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

TRAINING = 90_000  # milliseconds; a few epochs on the sample


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def open_page(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#try-predict")).to_be_visible()


def test_the_bundled_model_answers_at_once(page: Page, server) -> None:
    open_page(page, server.url)
    page.get_by_text("one less than nine").first.click()
    # The example travels over the server; asked before it arrives, the model would get nothing.
    expect(page.locator("#try-text textarea")).to_have_value("one less than nine")
    expect(page.locator("#try-image img")).to_be_visible()
    page.locator("#try-predict").click()
    answer = page.locator("#try-answer")
    expect(answer).to_contain_text(re.compile("match"), timeout=60_000)
    expect(answer).to_contain_text("%")


def test_training_on_the_sample_survives_a_reload_and_its_model_answers(
    page: Page, server
) -> None:
    open_page(page, server.url)
    tab(page, "Train")
    page.get_by_text("Advanced: every knob").click()
    page.get_by_label("Epochs (epochs)").fill("3")
    page.locator("#train-start").click()
    status = page.locator("#train-status")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=60_000)
    page.wait_for_url(re.compile("run="))

    page.reload()
    tab(page, "Train")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+|Done"), timeout=30_000)
    expect(page.locator("#train-curves svg").first).to_be_visible(timeout=30_000)
    expect(status).to_contain_text("Done", timeout=TRAINING)
    expect(page.locator("#train-curves")).to_contain_text("validation")

    tab(page, "Results")
    headline = page.locator("#results-headline")
    expect(headline).to_contain_text("720")
    accuracy = re.search(r"(\d\.\d{3})\s*Accuracy", headline.inner_text())
    assert accuracy, headline.inner_text()
    assert float(accuracy[1]) > 0.55  # three epochs are enough to leave chance behind

    tab(page, "Try")
    page.locator("#try-text textarea").fill("seven")
    page.locator("#try-predict").click()
    expect(page.locator("#try-answer")).to_contain_text("%", timeout=30_000)


def test_a_run_starts_from_the_bundled_model_and_says_what_it_changed(page: Page, server) -> None:
    open_page(page, server.url)
    tab(page, "Train")
    page.get_by_label("Start from").click()
    page.get_by_role("option", name="bundled: digits").click()
    page.get_by_text("Advanced: every knob").click()
    expect(page.get_by_label("Image size (pixels)")).to_have_value("32")  # the model's own
    page.get_by_label("Shots (pairs)").fill("10")
    page.get_by_label("Epochs (epochs)").fill("1")
    page.get_by_label("Alignment").fill("1")
    page.locator("#train-start").click()
    status = page.locator("#train-status")
    expect(status).to_contain_text("Done", timeout=TRAINING)

    tab(page, "Results")
    headline = page.locator("#results-headline")
    expect(headline).to_contain_text(re.compile(r"Before: accuracy 0\.97\d; change [+-]0\.\d{3} \("))

    tab(page, "Try")  # its texts and images were aligned, so it answers by names it never learnt
    page.locator("#try-names textarea, #try-names input").fill("a seven, a two")
    page.locator("#try-text textarea").fill("seven")
    page.locator("#try-predict").click()
    expect(page.locator("#try-answer")).to_contain_text("a two", timeout=30_000)


def test_an_uploaded_zip_shows_its_pairs_and_names_each_bad_row(
    page: Page, server, tmp_path: Path
) -> None:
    archive = bad_zip(tmp_path)
    open_page(page, server.url)
    tab(page, "Data")
    expect(page.locator("#data-summary")).to_contain_text("7,188", timeout=60_000)
    page.locator("#data-upload input[type=file]").set_input_files(archive)
    findings = page.locator("#data-findings")
    expect(findings).to_contain_text("missing image", timeout=30_000)
    expect(findings).to_contain_text("#3")
    expect(findings).to_contain_text("unreadable image")
    expect(page.locator("#data-pairs")).to_contain_text("<b>red</b> square")  # shown, not rendered
    page.locator("#data-to-train").click()
    expect(page.get_by_text("Training on pairs.zip")).to_be_visible()


def test_a_stopped_run_says_so_and_can_be_resumed(page: Page, server) -> None:
    open_page(page, server.url)
    tab(page, "Train")
    page.locator("#train-start").click()
    status = page.locator("#train-status")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=60_000)
    page.locator("#train-stop").click()
    expect(status).to_contain_text("Stopped and saved", timeout=60_000)
    expect(page.locator("#train-resume")).to_be_enabled()
    page.locator("#train-resume").click()
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=60_000)
    page.locator("#train-stop").click()
    expect(status).to_contain_text("Stopped and saved", timeout=60_000)


def bad_zip(folder: Path) -> Path:
    """Ten good pairs a colour, one missing file (row 3), one broken one (row 4)."""
    archive = folder / "pairs.zip"
    rows = ["file_name,text,label"]
    with zipfile.ZipFile(archive, "w") as out:
        for number, colour in enumerate(["red", "blue"] * 10, start=1):
            picture = folder / f"{number}.png"
            Image.new("RGB", (24, 24), colour).save(picture)
            if number == 4:
                out.writestr(f"{number}.png", b"not a picture")
            elif number != 3:
                out.write(picture, f"{number}.png")
            rows.append(f"{number}.png,<b>{colour}</b> square {number},{colour}")
        out.writestr("metadata.csv", "\n".join(rows))
    return archive




def test_a_run_outlives_the_server_and_is_found_again(page: Page, server) -> None:
    open_page(page, server.url)
    tab(page, "Train")
    page.locator("#train-start").click()
    status = page.locator("#train-status")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=60_000)
    page.wait_for_url(re.compile("run="))
    address, before = page.url, taken(status)
    page.goto("about:blank")

    server.kill()
    server.start()

    page.goto(address)
    tab(page, "Train")
    expect(status).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=60_000)
    assert taken(status) > before
    page.locator("#train-stop").click()
    expect(status).to_contain_text("Stopped and saved", timeout=60_000)


def taken(status: Locator) -> int:
    """Steps taken so far, as the page says."""
    found = re.search(r"step (\d+) of", status.inner_text())
    assert found, status.inner_text()
    return int(found[1])


def test_a_search_shows_its_trials_and_leaves_the_best_model(
    page: Page, server, tmp_path: Path
) -> None:
    open_page(page, server.url)
    tab(page, "Data")
    expect(page.locator("#data-summary")).to_contain_text("7,188", timeout=60_000)
    page.locator("#data-upload input[type=file]").set_input_files(bad_zip(tmp_path))
    expect(page.locator("#data-findings")).to_contain_text("unreadable image", timeout=30_000)
    page.locator("#data-to-train").click()
    page.get_by_text("Search for good settings").click()
    page.get_by_label("Minutes (minutes)").fill("0.02")
    page.locator("#search-start").click()
    status, trials = page.locator("#train-status"), page.locator("#train-curves")
    expect(status).to_contain_text("trial 1", timeout=60_000)
    expect(status).to_contain_text("Done", timeout=60_000)
    expect(status).to_contain_text("best of 1 trials: number 1, attention, full")
    expect(trials.locator("tr").nth(1)).to_contain_text("attention")
    tab(page, "Try")
    expect(page.get_by_label("Model")).to_have_value(re.compile("pairs.zip · search"))
