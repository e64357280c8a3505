"""Whether what is measured today is still what was accepted, and what differs."""
