"""Looking at a store: read-only pages over runs, stages and documents, each with an address of its own."""
