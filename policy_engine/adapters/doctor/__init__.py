"""One real batch through a trainer's own collator and loss, held against what the data says."""
