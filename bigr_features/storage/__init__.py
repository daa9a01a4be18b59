"""Files that are whole or not there: atomic writes, manifests, arrays in shards."""
