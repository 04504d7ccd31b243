"""Looking after a store: every byte verified, parts made again, what no run needs collected."""
