"""The steps of a flow as Prefect tasks, one verb a file."""
