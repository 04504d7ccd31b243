"""Pure functions on arrays; nothing here knows of a pipeline."""
