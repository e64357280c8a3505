"""LoadGen runs: a process of their own, watched from outside, and their logs turned into data."""
