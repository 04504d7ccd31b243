"""How a step works: the stages, in phase folders, and the small machinery that they share."""
