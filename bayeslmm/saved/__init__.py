"""A model, its data and its posterior in a folder: written whole or not at all, checked before it is believed."""
