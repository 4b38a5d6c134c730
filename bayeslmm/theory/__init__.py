"""The model's mathematics for teaching, and as the tests' measure."""
