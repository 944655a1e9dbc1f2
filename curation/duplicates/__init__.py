"""Pictures that show the same photograph: among candidates (duplicates), and in other data sets (leaks)."""
