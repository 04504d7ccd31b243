"""From a corpus to packed rows of tokens and a curriculum."""
