"""The local page of `bigr serve`: search, clusters, painting. A thin view: every answer comes from functions that Python users have too."""
