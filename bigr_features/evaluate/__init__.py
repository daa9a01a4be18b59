"""Evaluators: arrays in, results out. They know neither models nor data sets."""
