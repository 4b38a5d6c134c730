"""The formula language: a text becomes terms, checked against an allow-list."""
