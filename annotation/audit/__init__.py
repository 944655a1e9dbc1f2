"""Audits: blind samples of frozen sets, answered afresh, and the certificates that follow."""
