"""What was used: the ledger of model calls, which is the truth about cost."""
