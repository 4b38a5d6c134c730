"""Cross-products of the data, and log|V0| and T from them: all that a likelihood needs."""
