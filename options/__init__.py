"""Flags in groups, and how each group becomes plain arguments."""
