"""MedPerf's functions (``module.function`` beside a workflow file), called in a container."""
