"""From bytes of unknown manners to pairs, and from pairs to tensors. Knows no model."""
