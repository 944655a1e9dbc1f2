"""The training side of DML+: networks with a cosine classifier, focal loss (MCF) and center loss (MNC)."""
