"""A run is a folder: the worker writes it, everybody else reads it. The queue says who runs next."""
