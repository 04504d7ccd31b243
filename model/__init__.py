"""The network and its training: what every rank runs."""
