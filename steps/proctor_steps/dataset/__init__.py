"""Datasets: fetching them, and the licence filter of the MLPerf rules."""
