"""Encoders -> fusion -> head, as a transformers model built from configs alone. Knows no data."""
