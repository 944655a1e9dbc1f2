"""One page that shows a workspace: parts, charts, galleries, and the sections that need nothing but its tables."""
