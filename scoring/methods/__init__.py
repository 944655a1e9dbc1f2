"""One method, one file; `table.METHODS` lists them all."""
