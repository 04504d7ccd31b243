"""Pretraining, fine-tuning and export."""
