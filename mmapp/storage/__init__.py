"""Checkpoints: one self-describing folder each, written whole or not at all, read without trust."""
