"""Answers from a checkpoint: for one pair, for a table, and scores against known labels."""
