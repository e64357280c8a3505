"""Measurements of Proctor itself, side by side with what it is compared to. Never part of a test.

``python -m benchmarks`` lists them, ``python -m benchmarks NAME...`` runs them. Each prints a table
with machine, versions, runs, medians and intervals, and writes every single value as JSON.
"""
