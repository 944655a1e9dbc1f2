"""Where shards of work run: in processes of this machine, or on a Ray cluster, with the same results."""
