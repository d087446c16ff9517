"""Shapley values of any function: coalitions of features, played in big batches."""
