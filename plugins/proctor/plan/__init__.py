"""From a spec to a plan: immutable, sorted, without a clock, the same bytes at every site."""
