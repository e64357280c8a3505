"""From results to what MLCommons takes in: the submission tree and its archive."""
