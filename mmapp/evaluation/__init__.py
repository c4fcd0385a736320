"""Honest numbers about a model on pairs it has not seen. Leaves tensors behind."""
