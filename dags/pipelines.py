"""The only DAG file: every pipeline that this site knows, or the one Airflow asks for.

An airflow task process reads this file again at its start, so it stays this small.
"""

from proctor.airflow.dag import build_dags

globals().update(build_dags())
