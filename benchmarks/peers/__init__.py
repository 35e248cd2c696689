"""The masks of real systems beside ours, token by token."""
