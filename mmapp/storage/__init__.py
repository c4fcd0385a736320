"""Checkpoints: one self-describing folder each, written whole or not at all, read without trust."""

from pathlib import Path

# The checkpoints that come with the app, found by their folders' names.
SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"
