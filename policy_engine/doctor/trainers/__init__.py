"""One step of each trainer, run by the trainer's own code."""
