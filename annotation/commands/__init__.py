"""The commands of human work, from the queue to the audit: each parses, calls one function, prints."""
