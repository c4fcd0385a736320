"""The page: tabs with thin handlers over the floors below. Imports no torch before it is painted."""

import os

# Read by gradio and huggingface_hub when they are first imported; the page calls no other host.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
