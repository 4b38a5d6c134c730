"""What is said of a hierarchy: from keywords, a formula or a file, before there are data."""
