"""Proctor: MLPerf-style benchmarks compiled from YAML to Apache Airflow and run in containers."""

__version__ = "0.1.0"
