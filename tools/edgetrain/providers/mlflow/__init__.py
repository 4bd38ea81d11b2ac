"""Workspace `mlflow`: runs and models in MLflow, embedded on SQLite or on a server."""
