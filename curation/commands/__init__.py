"""The commands from Open Images' lists to pictures that are screened: each parses, calls one function, prints."""
