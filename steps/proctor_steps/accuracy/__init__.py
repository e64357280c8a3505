"""Scoring: from LoadGen's accuracy log to the figure that the round asks for."""
