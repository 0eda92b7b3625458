"""Pictures, each with its numbers beside it as .csv."""
