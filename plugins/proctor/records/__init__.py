"""The append-only record of a run: attempts, results, approvals. The truth, beside Airflow's state."""
