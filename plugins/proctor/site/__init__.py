"""A site's own instance: its home folder, PostgreSQL and Airflow, started and stopped together."""
