"""Systems under test: the backends that run a model, and what feeds them LoadGen's queries."""
