"""How every plot looks and is written: the home of matplotlib in manifests."""
