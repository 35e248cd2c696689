"""What is true of a policy for all conversations."""
