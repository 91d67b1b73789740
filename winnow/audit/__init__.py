"""The audit log: what was answered and what was done, by whom, in chains of hashes (docs/adr/0014)."""
