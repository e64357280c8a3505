"""The append-only record of a run: attempts, results, approvals; the truth beside Airflow's."""
