"""How a handler answers for mistakes: ours in their own words, anything else with an apology."""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable
from typing import TypeVar

import gradio as gr

from mmapp.errors import MmappError
from mmapp.ui import words

log = logging.getLogger(__name__)

R = TypeVar("R")


def spoken(handler: Callable[..., R]) -> Callable[..., R]:
    """Turn a MmappError into a message at the page; log everything else whole."""

    @functools.wraps(handler)
    def speaking(*arguments: object) -> R:
        try:
            return handler(*arguments)
        except MmappError as error:
            log.info("%s: %s", handler.__name__, error)
            raise gr.Error(html.escape(str(error)), duration=15, print_exception=False) from error
        except gr.Error:
            raise
        except Exception as error:
            log.exception("The handler %s failed.", handler.__name__)
            apology = words.APOLOGY.format(name=handler.__name__)
            raise gr.Error(apology, print_exception=False) from error

    return speaking
