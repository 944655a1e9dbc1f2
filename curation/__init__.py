"""Reads Open Images metadata, downloads candidates, embeds and screens them."""
