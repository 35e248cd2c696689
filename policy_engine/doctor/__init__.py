"""One real step through a trainer, compared with the labels and weights in the data."""
