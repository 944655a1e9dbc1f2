"""Which labels of Open Images mean a class of ImageNet-1K: the reviewed map, and the script that builds it."""
