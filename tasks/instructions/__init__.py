"""Instruction data, generated and judged."""
