"""The Airflow side: plans as DAGs, steps as tasks, gates as questions to people."""
