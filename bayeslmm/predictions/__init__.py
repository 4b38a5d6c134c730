"""What a posterior says of rows, old and new."""
