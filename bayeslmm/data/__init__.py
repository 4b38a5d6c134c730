"""Data as they come: named columns and groups of rows."""
