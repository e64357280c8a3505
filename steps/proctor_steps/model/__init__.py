"""Models: fetching them, and describing what was fetched."""
