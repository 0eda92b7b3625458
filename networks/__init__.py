"""What a network is: architectures, heads, restoring, running over arrays of any length."""
