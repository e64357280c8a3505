"""MLPerf's compliance tests: what a test changes in a run, and what its logs must show."""
