"""The page as a whole: tabs, what crosses them, and the server that shows it."""

from __future__ import annotations

import logging
import threading
from functools import partial

import gradio as gr

from mmapp.data.ingest import home, uploads
from mmapp.runs.queue import RunQueue
from mmapp.storage import SHIPPED
from mmapp.ui import data_tab, results_tab, train_tab, try_tab, words
from mmapp.ui.shelf import Shelf
from mmapp.ui.theme import CSS, THEME

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MAX_UPLOAD = "2gb"
# Uploaded and offered files that Gradio keeps a copy of: looked at hourly, gone after a day.
TEMPORARY = (3600, 86400)

# Folders below home() that no file address may lead to. (Where home() is the repository itself, the
# examples of the shipped checkpoints are shown from one of them.)
OURS = ("runs", "checkpoints", "uploads", "unpacked", "samples", "features")

HEAD = f'<header class="mm mm-head"><h1>{words.TITLE}</h1><p>{{}}</p></header>'


def build(queue: RunQueue) -> tuple[gr.Blocks, Shelf]:
    """The page over a queue of runs, and the shelf of models it asks."""
    shelf = Shelf(queue)
    with gr.Blocks(title=words.TITLE, delete_cache=TEMPORARY) as page:
        gr.HTML(HEAD.format(words.SUBTITLE.replace("*and*", "<em>and</em>")))
        timer = gr.Timer(POLL_SECONDS, active=False)
        with gr.Tabs() as tabs:
            trying = try_tab.build(shelf)
            data = data_tab.build()
            training = train_tab.build(queue, shelf, data, trying, page, timer)
            results_tab.build(shelf, training.run, trying)
        for button, place in ((data.to_train, "train"), (training.to_table, "results")):
            go = partial(gr.Tabs, selected=place)
            button.click(go, None, tabs, api_visibility="private", queue=False)
    return page, shelf


def serve(host: str | None = None, port: int | None = None) -> None:
    """Open the page and keep it open until Ctrl-C. Runs and uploads are kept below `home()`."""
    uploads().mkdir(parents=True, exist_ok=True)
    queue = RunQueue(home() / "runs")
    page, shelf = build(queue)
    page.queue(max_size=200)
    page.launch(
        server_name=host,
        server_port=port,
        theme=THEME,
        css=CSS,
        max_file_size=MAX_UPLOAD,
        run_history=False,
        enable_monitoring=False,
        blocked_paths=[str(path) for path in map(home().joinpath, OURS) if path.resolve() != SHIPPED],
        prevent_thread_lock=True,
    )
    queue.open()
    threading.Thread(target=_warm_up, args=[shelf], name="warm up", daemon=True).start()
    try:
        page.block_thread()
    finally:
        queue.close()


def _warm_up(shelf: Shelf) -> None:
    """Load the libraries and the bundled model while the visitor is still reading."""
    first = shelf.first()
    if first is not None:
        shelf.open(first)
        log.info("The bundled model is open.")
