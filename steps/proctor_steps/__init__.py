"""What runs inside the containers of a Proctor pipeline. Imports neither proctor nor Airflow."""

__version__ = "0.1.0"
