"""Nearest rows of arrays, by cosine or by bits: exact and approximate search. Arrays in, row numbers out; knows no gallery."""
