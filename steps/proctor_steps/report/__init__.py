"""One page that a person can judge a run by, and the same as data."""
