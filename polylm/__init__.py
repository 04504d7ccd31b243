"""polylm: from raw multilingual text to an evaluated, instruction-tuned language model."""

__version__ = "0.1.0"
