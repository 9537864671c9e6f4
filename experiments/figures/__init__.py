"""The thesis's figures and table 3.1, made from the raw rows of an experiment."""
