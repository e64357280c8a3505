"""The spec language: a YAML file becomes a Pipeline, or the list of everything wrong with it."""
