"""A running event loop to draw pages in; without one Gradio makes its own and never closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


@pytest.fixture(scope="session")
def drawn_by() -> Callable[..., Any]:
    """drawn_by(function, ...): what the function gives, called while a loop is running."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        async def run() -> Any:
            return function(*arguments)

        # In a thread of its own: Playwright's loop may be running in this one.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: asyncio.run(run())).result()

    return call
