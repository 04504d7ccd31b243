"""From documents to a corpus with a verdict on every document."""
