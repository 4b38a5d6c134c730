"""Results as tables that say what they are."""
