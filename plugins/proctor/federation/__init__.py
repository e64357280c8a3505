"""How far a site is, told to a committee: the report that leaves, and who receives it."""
