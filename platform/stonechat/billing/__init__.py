"""Who pays for what: one `BillingProvider`, fed from the usage ledger, told by webhooks, and never in the chat's way."""
