"""What the steps of the pipeline know: the service, the journal, the ledger. No Prefect here."""
