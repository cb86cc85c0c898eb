"""What runs: the Prefect flows."""
