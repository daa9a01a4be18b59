"""The networks of BiGR, their configuration, and sizes by name."""
