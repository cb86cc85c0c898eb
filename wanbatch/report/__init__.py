"""The ledger as tables, a page and FOCUS rows."""
