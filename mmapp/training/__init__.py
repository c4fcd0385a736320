"""From pairs and settings to a trained model, told as a stream of events. Knows no file, no page."""
